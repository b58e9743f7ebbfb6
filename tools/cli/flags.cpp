#include "tools/cli/flags.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::tools {
namespace {

// An abbreviation is nearer to its flag than any other word of the same length.
std::string nearest_flag(const std::string& flag, const std::vector<std::string>& known) {
  for (const std::string& k : known)
    if (k.starts_with(flag)) return k;
  return nearest(flag, known);
}

}  // namespace

int64_t parse_whole(const std::string& flag, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  PLUME_CHECK(error == std::errc() && end == text.data() + text.size() && value >= least && value <= most,
              "{}: '{}' is not a whole number from {} to {}", flag, text, least, most);
  return value;
}

double parse_number(const std::string& flag, const std::string& text, double least, double most) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  PLUME_CHECK(error == std::errc() && end == text.data() + text.size() && std::isfinite(value) &&
                  value >= least && value <= most,
              "{}: '{}' is not a number from {} to {}", flag, text, least, most);
  return value;
}

Flags::Flags(int argc, char** argv, const std::string& description)
    : argc_(argc),
      argv_(argv),
      tool_(argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "plume"),
      app_(std::make_unique<CLI::App>(description, tool_)) {
  app_->get_formatter()->column_width(36);
}

Flags::~Flags() = default;

void Flags::Flag::required() { option_->required(); }

Flags::Flag Flags::text(const std::string& name, std::string& value, const std::string& help) {
  return app_->add_option(name, value, help)->type_name("TEXT")->capture_default_str();
}

Flags::Flag Flags::choice(const std::string& name, std::string& value,
                          const std::vector<std::string>& allowed, const std::string& help) {
  std::string names;
  for (const std::string& a : allowed) names += (names.empty() ? "" : "|") + a;
  const auto assign = [&value, name, allowed, names](const std::string& word) {
    for (const std::string& a : allowed)
      if (word == a) return void(value = word);
    fail(ErrorKind::usage, "{}: '{}' is not one of {}; nearest: '{}'", name, word, names,
         nearest(word, allowed));
  };
  return app_->add_option_function<std::string>(name, assign, help)->type_name(names)->default_str(value);
}

Flags::Flag Flags::whole(const std::string& name, int64_t& value, int64_t least, int64_t most,
                         const std::string& help) {
  return app_
      ->add_option_function<std::string>(
          name, [=, &value](const std::string& word) { value = parse_whole(name, word, least, most); }, help)
      ->type_name("INT")
      ->default_str(std::to_string(value));
}

Flags::Flag Flags::number(const std::string& name, double& value, double least, double most,
                          const std::string& help) {
  return app_
      ->add_option_function<std::string>(
          name, [=, &value](const std::string& word) { value = parse_number(name, word, least, most); }, help)
      ->type_name("NUMBER")
      ->default_str(message("{}", value));
}

Flags::Flag Flags::on(const std::string& name, bool& value, const std::string& help) {
  return app_->add_flag(name, value, help);
}

Flags::Flag Flags::list(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  repeatable_.insert(name);
  return app_->add_option(name, values, help)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Flags::words(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  constexpr int kMost = 1'000'000;
  app_->add_option(name, values, help)
      ->expected(0, kMost)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Flags::refuse_unknown_and_repeated() const {
  std::vector<std::string> known = {"--help"};
  for (const CLI::Option* option : app_->get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  std::set<std::string> seen;
  for (int i = 1; i < argc_; ++i) {
    const std::string word = argv_[i], flag = word.substr(0, word.find('='));
    if (!flag.starts_with("--") || flag.size() == 2) continue;
    PLUME_CHECK(std::find(known.begin(), known.end(), flag) != known.end(),
                "there is no flag {}; nearest: {}", flag, nearest_flag(flag, known));
    PLUME_CHECK(seen.insert(flag).second || repeatable_.contains(flag), "{} is given twice", flag);
  }
}

void Flags::parse() {
  refuse_unknown_and_repeated();
  try {
    app_->parse(argc_, argv_);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app_->help().c_str(), stdout);
    throw HelpShown{};
  } catch (const CLI::ParseError& error) {
    fail(ErrorKind::usage, "{} (--help lists the flags)", error.what());
  }
}

bool Flags::given(const std::string& name) const { return app_->count(name) > 0; }

}  // namespace plume::tools
