#include "elsa/config_options.h"

#include <algorithm>

#include "elsa/io/mapped_file.h"

namespace elsa {

ConfigOptions::ConfigOptions(CLI::App* command, bool parameters) : values_(Fields().size()) {
  command->add_option("--config", path_,
                      "Configuration file (TOML); without it the machine of the paper");
  command
      ->add_option("--formats", formats_,
                   "Number formats instead of the configuration's: paper-literal or recommended")
      ->type_name("WORD");
  if (!parameters) return;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Field& field = Fields()[i];
    std::string name(field.key.substr(field.key.find('.') + 1));
    std::replace(name.begin(), name.end(), '_', '-');
    command->add_option("--" + name, values_[i], std::string(field.doc))
        ->type_name("(" + RangeText(field) + ")")
        ->group("Parameters (each replaces the configuration's value)");
  }
}

bool ConfigOptions::given() const {
  return path_ || formats_ ||
         std::any_of(values_.begin(), values_.end(), [](const auto& v) { return v.has_value(); });
}

Config ConfigOptions::Resolve() const {
  Config config;
  if (path_) {
    const io::MappedFile file(*path_);
    const auto* text = reinterpret_cast<const char*>(file.bytes().data());
    config = ParseConfig(std::string_view(text, file.bytes().size()), *path_);
  }
  if (formats_) SetFormats(&config, *formats_);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i]) SetValue(&config, Fields()[i], *values_[i]);
  }
  ValidateConfig(config);
  return config;
}

}  // namespace elsa
