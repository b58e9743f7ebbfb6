#include "tools/study/paper.h"

#include <utility>

namespace plume::tools {
namespace {

constexpr PaperRow kRows[] = {
    {"cifar10", "mobilenet_v3_small", 95.49, .9533, .000081, 0.01, 5.89},
    {"cifar10", "resnet18", 96.05, .9578, .000039, 0.04, 42.65},
    {"cifar10", "efficientnet_v2_s", 96.53, .9607, .000123, 0.01, 76.97},
    {"cifar10", "squeezenet1_1", 84.48, .8359, .000037, 0.00, 2.78},
    {"cifar10", "shufflenet_v2_x1_0", 95.83, .9512, .000100, 0.00, 4.82},
    {"cifar100", "mobilenet_v3_small", 89.62, .8889, .000113, 0.01, 6.18},
    {"cifar100", "resnet18", 84.47, .8432, .000050, 0.04, 42.83},
    {"cifar100", "efficientnet_v2_s", 90.82, .9104, .000157, 0.01, 77.46},
    {"cifar100", "squeezenet1_1", 62.24, .6198, .000048, 0.00, 2.95},
    {"cifar100", "shufflenet_v2_x1_0", 89.21, .9027, .000127, 0.00, 5.17},
    {"tiny-imagenet", "mobilenet_v3_small", 72.54, .7188, .000062, 0.02, 7.46},
    {"tiny-imagenet", "resnet18", 67.67, .6574, .000035, 0.15, 43.03},
    {"tiny-imagenet", "efficientnet_v2_s", 76.87, .7459, .000109, 0.03, 79.80},
    {"tiny-imagenet", "squeezenet1_1", 20.50, .1923, .000031, 0.02, 3.15},
    {"tiny-imagenet", "shufflenet_v2_x1_0", 65.23, .6386, .000087, 0.01, 5.56},
};
constexpr PaperScratch kScratch[] = {
    {"cifar10", 92.51, .9136}, {"cifar100", 85.67, .8499}, {"tiny-imagenet", 67.23, .6440}};

using Names = std::pair<std::string_view, std::string_view>;
constexpr Names kModels[] = {
    {"mobilenet_v3_small", "MobileNetV3-Small"}, {"resnet18", "ResNet18"},
    {"efficientnet_v2_s", "EfficientNetV2-S"},   {"squeezenet1_0", "SqueezeNet 1.0"},
    {"squeezenet1_1", "SqueezeNet 1.1"},         {"shufflenet_v2_x0_5", "ShuffleNetV2 x0.5"},
    {"shufflenet_v2_x1_0", "ShuffleNetV2 x1.0"}};
constexpr Names kData[] = {{"cifar10", "CIFAR-10"},
                           {"cifar100", "CIFAR-100"},
                           {"tiny-imagenet", "Tiny ImageNet"},
                           {"synthetic", "Embedded shapes"}};

std::string_view printed(std::span<const Names> names, std::string_view name) {
  for (const auto& [key, text] : names)
    if (key == name) return text;
  return name;
}

}  // namespace

std::span<const PaperRow> paper_rows() { return kRows; }
std::span<const PaperScratch> paper_scratch() { return kScratch; }

const PaperRow* find_paper_row(std::string_view data, std::string_view model) {
  for (const PaperRow& row : kRows)
    if (row.data == data && row.model == model) return &row;
  return nullptr;
}

const PaperScratch* find_paper_scratch(std::string_view data, std::string_view model) {
  for (const PaperScratch& row : kScratch)
    if (row.data == data && model == kPaperScratchModel) return &row;
  return nullptr;
}

std::string_view printed_model(std::string_view model) { return printed(kModels, model); }
std::string_view printed_data(std::string_view data) { return printed(kData, data); }

}  // namespace plume::tools
