#include "elsa/cost/node_scaling.h"

#include <algorithm>

#include "elsa/base/error.h"
#include "elsa/params/toml.h"

namespace elsa::cost {

const ProcessNode& NodeScaling::At(std::int64_t node_nm) const {
  std::string known;
  for (const ProcessNode& node : nodes) {
    if (node.node_nm == node_nm) return node;
    known += (known.empty() ? "one of " : ", ") + std::to_string(node.node_nm);
  }
  throw Error(ErrorCode::kInvalidArgument,
              name + ": node_nm: expected " + known + ", got " + std::to_string(node_nm));
}

NodeScaling ParseNodeScaling(std::string_view toml, std::string_view name) {
  TomlReader reader(toml, name);
  NodeScaling scaling;
  scaling.name = reader.Words("scaling.name");
  scaling.source = reader.Words("scaling.source");
  scaling.checked = reader.Words("scaling.checked");
  for (const auto& [section, line] : reader.document().sections()) {
    if (section == "scaling") continue;
    const std::string prefix = section + ".";
    ProcessNode node;
    node.node_nm = reader.PositiveInteger(prefix + "node_nm");
    node.vdd_v = reader.PositiveNumber(prefix + "vdd_v");
    node.area = reader.PositiveNumber(prefix + "area");
    node.energy_a2 = reader.Number(prefix + "energy_a2");
    node.energy_a1 = reader.Number(prefix + "energy_a1");
    node.energy_a0 = reader.Number(prefix + "energy_a0");
    if (!(node.Energy(node.vdd_v) > 0)) {
      reader.document().Fail(line, section, "a positive energy at its voltage", "none");
    }
    for (const ProcessNode& other : scaling.nodes) {
      if (other.node_nm != node.node_nm) continue;
      reader.document().Fail(reader.document().LineOf(prefix + "node_nm"), prefix + "node_nm",
                             "each node once", std::to_string(node.node_nm) + " again");
    }
    scaling.nodes.push_back(node);
  }
  reader.RefuseUnread();
  std::sort(scaling.nodes.begin(), scaling.nodes.end(),
            [](const ProcessNode& a, const ProcessNode& b) { return a.node_nm < b.node_nm; });
  if (scaling.nodes.empty()) reader.document().Fail(1, "nodes", "at least one", "none");
  return scaling;
}

Technology ScaleToNode(const Technology& technology, const NodeScaling& scaling,
                       std::int64_t node_nm) {
  const ProcessNode& from = scaling.At(technology.scaling_node_nm);
  const ProcessNode& to = scaling.At(node_nm);
  const double area = to.area / from.area;
  const double energy = to.Energy(to.vdd_v) / from.Energy(from.vdd_v);
  Technology scaled = technology;
  for (auto& row : scaled.rows) {
    if (!row) continue;
    row->area_mm2 *= area;
    if (row->dynamic_mw) *row->dynamic_mw *= energy;
  }
  scaled.stated = {};  // the source's sums are not those of the scaled rows
  scaled.scaling_node_nm = node_nm;
  scaled.name += "-at-" + std::to_string(node_nm) + "nm";
  scaled.scaled += (technology.scaled.empty() ? "" : ", then ") + std::string("scaled from ") +
                   std::to_string(from.node_nm) + " to " + std::to_string(to.node_nm) + " nm by " +
                   scaling.name + ", static power unscaled";
  return scaled;
}

}  // namespace elsa::cost
