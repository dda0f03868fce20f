// The accelerator's parameters. Source: elsa/params/config.h, whose field table names the
// attributes.
#include "elsa/params/config.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>

#include <map>
#include <string>

#include "bindings.h"
#include "elsa/io/mapped_file.h"

namespace elsa::python {
namespace {

std::string SectionOf(const Field& field) {
  return std::string(field.key.substr(0, field.key.find('.')));
}

std::string NameOf(const Field& field) {
  return std::string(field.key.substr(field.key.find('.') + 1));
}

nb::object ValueOf(const Config& config, const Field& field) {
  if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
    return nb::int_(config.**integer);
  }
  return nb::cast(ValueText(config, field));
}

// {"machine": {"n": 512, ...}, ...}, as `elsa params --json` has it.
nb::dict ConfigDict(const Config& config) {
  nb::dict sections;
  for (const Field& field : Fields()) {
    const std::string section = SectionOf(field);
    if (!sections.contains(section.c_str())) sections[section.c_str()] = nb::dict();
    sections[section.c_str()][NameOf(field).c_str()] = ValueOf(config, field);
  }
  return sections;
}

Config Load(const std::string& path) {
  const io::MappedFile file(path);
  const auto* text = reinterpret_cast<const char*>(file.bytes().data());
  return ParseConfig(std::string_view(text, file.bytes().size()), path);
}

// A valid copy with another format set, unless it is "", and other values by name. Names that no
// field has are the caller's business.
Config Replace(const Config& config, const std::string& formats,
               const std::map<std::string, std::string>& values) {
  Config changed = config;
  if (!formats.empty()) SetFormats(&changed, formats);
  for (const Field& field : Fields()) {
    const auto value = values.find(NameOf(field));
    if (value != values.end()) SetValue(&changed, field, value->second);
  }
  ValidateConfig(changed);
  return changed;
}

}  // namespace

void BindConfig(nb::module_& module) {
  nb::class_<Config> config(module, "Config");
  config.def(nb::init<>())
      .def_static("load", &Load, nb::arg("path"))
      .def("replace", &Replace, nb::arg("formats"), nb::arg("values"))
      .def("to_dict", &ConfigDict)
      .def("__eq__", [](const Config& a, const Config& b) { return a == b; })
      .def_prop_ro("digest", [](const Config& self) { return Digest(self); })
      .def_prop_ro("formats", [](const Config& self) { return std::string(FormatSetOf(self)); });
  for (const Field& field : Fields()) {
    config.def_prop_ro(NameOf(field).c_str(),
                       [&field](const Config& self) { return ValueOf(self, field); });
  }
}

}  // namespace elsa::python
