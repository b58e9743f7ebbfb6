// time_decode: decodes image files on one thread and prints one line of JSON, so that a script can alternate
// it with other decoders on the same machine.
#include <chrono>
#include <cstdio>

#include "data/images/image.h"
#include "engine/core/error.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"

namespace {

using namespace plume;

int run(tools::Flags& flags) {
  data::DecodeOptions options;
  int64_t rounds = 1;
  std::vector<std::string> files;
  flags.words("IMAGE", files, "image files");
  flags.whole("--rounds", rounds, 1, 1000000, "how often to decode each");
  flags.whole("--least-side", options.least_side, 0, 100000,
              "JPEGs at 1/2, 1/4 or 1/8 of their size where the shorter side keeps at least this; 0: never");
  flags.on("--own-decoders", options.own_decoders, "without libjpeg-turbo and libspng");
  flags.parse();
  if (files.empty()) fail(ErrorKind::usage, "time_decode: no image given");

  int64_t pixels = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t round = 0; round < rounds; ++round)
    for (const std::string& file : files) {
      const data::Image image = data::load_image(file, options);
      pixels += int64_t{image.height} * image.width;
    }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double images = double(files.size()) * double(rounds);
  const nlohmann::json line{{"decoders", options.own_decoders ? "own" : data::image_decoders()},
                            {"images", images},
                            {"images_per_second", images / seconds},
                            {"megapixels_per_second", double(pixels) / seconds / 1e6}};
  std::printf("%s\n", tools::to_text(line).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Times the decoding of image files and prints one line of JSON.",
                                run);
}
