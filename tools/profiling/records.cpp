#include "tools/profiling/records.h"

#include <fmt/core.h>

#include "tools/cli/csv.h"
#include "tools/cli/json.h"
#include "tools/machine_code/kernel_report.h"
#include "tools/profiling/text.h"
#include "tools/profiling/units.h"

namespace plume::tools {
namespace {

Json prediction_json(const ProfileRow& row, const RowPrediction& p) {
  const KernelCounts& c = p.counts;
  return {{"predicted_seconds", row.seconds},
          {"predicted_seconds_low", p.low},
          {"predicted_seconds_high", p.high},
          {"bound", name(p.bound)},
          {"second_bound", name(p.second)},
          {"occupancy", p.occupancy},
          {"sectors", c.sectors},
          {"ideal_sectors", c.ideal_sectors},
          {"wavefronts", c.wavefronts},
          {"ideal_wavefronts", c.ideal_wavefronts},
          {"requests", c.requests()},
          {"instructions", c.instructions},
          {"l2_bytes", c.l2_bytes},
          {"lanes_per_request", c.lanes_per_request()},
          {"bytes_in_flight", c.bytes_in_flight()},
          {"atomic_turns", c.atomic_turns},
          {"mma", c.mma}};
}

Json rounded_limit(double share) { return share > 0 ? Json(share * kPercent) : Json(nullptr); }

Json operands_json(const ProfileCall& call) {
  Json all = Json::array();
  for (const ProfileOperand& o : call.operands)
    all.push_back({{"dtype", name(o.dtype)},
                   {"shape", std::vector<int64_t>(o.shape.begin(), o.shape.end())},
                   {"written", o.written}});
  return all;
}

// "f32:1x56x56x16 f32:3x3x16 >f32:1x56x56x16"; lists of many tensors are counted.
std::string operands_text(const ProfileCall& call) {
  constexpr size_t kMost = 16;
  if (call.operands.size() > kMost) return fmt::format("{} tensors", call.operands.size());
  std::string text;
  for (const ProfileOperand& o : call.operands) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}{}", o.written ? ">" : "", name(o.dtype));
    for (int i = 0; i < o.shape.rank(); ++i) text += fmt::format("{}{}", i ? "x" : ":", o.shape[i]);
  }
  return text;
}

Json row_json(const ProfileRow& row, double step_seconds, const Ceilings& ceilings) {
  const Achieved got = achieved(row.call.cost, row.seconds, row.call.dtype(), ceilings);
  return {{"layer", row.call.scope},
          {"pass", row.call.backward ? "backward" : "forward"},
          {"slot", row.call.slot},
          {"variant", row.call.variant},
          {"class", name(row.call.cost.kind)},
          {"nested", row.call.depth},
          {"operands", operands_json(row.call)},
          {"seconds", row.seconds},
          {"percent_of_step", row.seconds / step_seconds * kPercent},
          {"macs", row.call.cost.macs},
          {"bytes", row.call.cost.bytes},
          {"bytes_per_second", got.bytes_per_second},
          {"flops_per_second", got.flops_per_second},
          {"percent_of_limit", rounded_limit(got.share_of_limit)},
          {"launches", row.launches < 0 ? Json(nullptr) : Json(row.launches)}};
}

}  // namespace

Json to_json(const ProfileReport& report, const Ceilings& ceilings) {
  const ProfileRequest& request = report.request;
  const Profile& profile = report.profile;
  Json j;
  j["model"] = request.model;
  j["mode"] = request.workload.training ? "training" : "inference";
  j["fused"] = !request.workload.training && request.options.fuse;
  j["size"] = request.workload.size;
  j["batch"] = request.workload.batch;
  j["classes"] = report.classes;
  j["dtype"] = name(request.dtype);
  j["device"] = name(request.device);
  j["machine"] = report.machine;
  j["graph"] = request.options.graph;
  j["parameters"] = report.parameters;
  j["macs_per_image"] = report.macs_per_image;
  j["ceilings"]["copy_bytes_per_second"] = ceilings.copy_bytes_per_second;
  j["ceilings"]["flops_per_second"] = Json::object();
  for (const auto& [dtype, flops] : ceilings.flops_per_second)
    j["ceilings"]["flops_per_second"][name(dtype)] = flops;
  j["passes"] = profile.passes;
  j["times"] = !report.predictions.empty() ? "predicted" : profile.device_times ? "kernels" : "calls";
  if (!report.predictions.empty())
    j["prediction"] = {{"gpu", report.predicted_for},
                       {"step_seconds_low", report.low_seconds},
                       {"step_seconds_high", report.high_seconds}};
  if (!report.predictions.empty()) j["kernels"] = to_json(report.kernels);
  const double all_launches = launches(profile);
  j["launches"] = all_launches < 0 ? Json(nullptr) : Json(all_launches);
  j["step_seconds"] = profile.step_seconds;
  j["alone_seconds"] = report.alone_seconds;
  j["outside_seconds"] = profile.outside_seconds;
  j["peak_bytes"] = report.memory.peak;
  j["notes"] = report.notes;
  j["peak_bytes_by_tag"] = Json::object();
  for (const auto& [tag, bytes] : report.memory.peak_by_tag) j["peak_bytes_by_tag"][tag] = bytes;
  j["classes_of_work"] = Json::object();
  for (const auto& [kind, sum] : sums_by_class(profile, ceilings))
    j["classes_of_work"][name(kind)] = {
        {"calls", sum.calls}, {"seconds", sum.seconds}, {"macs", sum.macs}, {"bytes", sum.bytes}};
  j["rows"] = Json::array();
  for (size_t i = 0; i < profile.rows.size(); ++i) {
    const ProfileRow& row = profile.rows[i];
    j["rows"].push_back(row_json(row, profile.step_seconds, ceilings));
    if (!report.predictions.empty()) j["rows"].back().update(prediction_json(row, report.predictions[i]));
  }
  return j;
}

Json to_json(const CountedPass& pass, size_t call, const ProfileRequest& request, const GpuDescription& gpu) {
  const std::vector<ProfileCall>& calls = pass.profiler->calls();
  ProfileRow sum{calls[call], 0, 0};
  RowPrediction all;
  Json launches = Json::array();
  for (size_t c = call; c < end_of_call(calls, call); ++c) {
    const std::vector<Prediction> predictions = predict_call(pass, c, gpu);
    const std::vector<const CountedLaunch*> counted = pass.of_call(c);
    add(all, counted, predictions);
    if (c > call) {  // the work of a call that is made of others is theirs
      sum.call.cost.macs += calls[c].cost.macs;
      sum.call.cost.bytes += calls[c].cost.bytes;
    }
    for (size_t i = 0; i < counted.size(); ++i) {
      sum.seconds += predictions[i].seconds;
      sum.launches += 1;
      Json bounds = Json::object();
      for (int b = 0; b < kBounds; ++b) bounds[name(Bound(b))] = predictions[i].parts[size_t(b)];
      launches.push_back({{"kernel", short_kernel_name(counted[i]->kernel)},
                          {"grid", counted[i]->grid},
                          {"block", counted[i]->block},
                          {"blocks", counted[i]->blocks},
                          {"counted_blocks", counted[i]->counted_blocks},
                          {"shared_bytes", counted[i]->shared_bytes},
                          {"registers", counted[i]->registers},
                          {"predicted_seconds", predictions[i].seconds},
                          {"seconds_of_bounds", std::move(bounds)}});
    }
  }
  Json j = row_json(sum, sum.seconds, ceilings_of(gpu));
  j.update(prediction_json(sum, all));
  j["model"] = request.model;
  j["mode"] = request.workload.training ? "training" : "inference";
  j["size"] = request.workload.size;
  j["batch"] = request.workload.batch;
  j["shapes"] = shape_label(calls[call], request.workload.batch);
  j["gpu"] = gpu.name;
  j["times"] = "predicted";
  j["kernels"] = std::move(launches);
  return j;
}

std::string to_csv(const ProfileReport& report, const Ceilings& ceilings) {
  const Profile& profile = report.profile;
  const bool predicted = !report.predictions.empty();
  std::string csv =
      "layer,pass,slot,variant,class,nested,operands,microseconds,percent_of_step,macs,bytes,gb_per_second,"
      "gflop_per_second,percent_of_limit,launches";
  if (predicted)
    csv +=
        ",microseconds_low,microseconds_high,bound,second_bound,occupancy,sectors,ideal_sectors,wavefronts,"
        "ideal_wavefronts";
  csv += "\n";
  const auto optional = [](double value) { return value > 0 ? fmt::format("{:.4g}", value) : std::string(); };
  for (size_t i = 0; i < profile.rows.size(); ++i) {
    const ProfileRow& row = profile.rows[i];
    const Achieved got = achieved(row.call.cost, row.seconds, row.call.dtype(), ceilings);
    const std::string operands = csv_cell(operands_text(row.call));
    csv += fmt::format("{},{},{},{},{},{},{},{:.3f},{:.3f},{:.0f},{:.0f},{},{},{},{}",
                       csv_cell(row.call.scope), row.call.backward ? "backward" : "forward", row.call.slot,
                       row.call.variant, name(row.call.cost.kind), row.call.depth, operands,
                       row.seconds * kMicro, row.seconds / profile.step_seconds * kPercent,
                       row.call.cost.macs, row.call.cost.bytes, optional(got.bytes_per_second * kGiga),
                       optional(got.flops_per_second * kGiga), optional(got.share_of_limit * kPercent),
                       row.launches < 0 ? std::string() : fmt::format("{:.0f}", row.launches));
    if (predicted) {
      const RowPrediction& p = report.predictions[i];
      csv += fmt::format(",{:.3f},{:.3f},{},{},{:.3f},{:.0f},{:.0f},{:.0f},{:.0f}", p.low * kMicro,
                         p.high * kMicro, name(p.bound), name(p.second), p.occupancy, p.counts.sectors,
                         p.counts.ideal_sectors, p.counts.wavefronts, p.counts.ideal_wavefronts);
    }
    csv += "\n";
  }
  csv += fmt::format("outside operations,,,,,,,{:.3f},{:.3f},,,,,,{}\n", profile.outside_seconds * kMicro,
                     profile.outside_seconds / profile.step_seconds * kPercent,
                     predicted ? std::string(9, ',') : "");
  return csv;
}

}  // namespace plume::tools
