// The figures of the paper that `study` sets beside its own: Tables 1 to 4.
//
// Its networks ran on one Tesla P100. Its FLOPs column counts the multiply-adds at the data sets' own
// resolution, and its sizes are in MiB.
#pragma once
#include <span>
#include <string_view>

namespace plume::tools {

// Tables 1 (cifar10), 2 (cifar100) and 3 (tiny-imagenet): pretrained networks, fine-tuned.
struct PaperRow {
  std::string_view data, model;  // by the registries' names
  double accuracy;               // %
  double macro_f1;
  double seconds_per_image;
  double giga_macs;  // 0.00 where it is less than 0.005
  double size_mib;
};
std::span<const PaperRow> paper_rows();
const PaperRow* find_paper_row(std::string_view data, std::string_view model);  // null when absent

// Table 4: MobileNetV3-Small from random weights. Its pretrained figures are those of Tables 1 to 3.
struct PaperScratch {
  std::string_view data;
  double accuracy, macro_f1;
};
inline constexpr std::string_view kPaperScratchModel = "mobilenet_v3_small";
std::span<const PaperScratch> paper_scratch();
const PaperScratch* find_paper_scratch(std::string_view data, std::string_view model);

// "MobileNetV3-Small" and "CIFAR-10", or the registry's name where the paper has none.
std::string_view printed_model(std::string_view model);
std::string_view printed_data(std::string_view data);

}  // namespace plume::tools
