// From one process to another: published factors of area and energy per operation. Source:
// Stillmaker and Baas 2017, as data in data/tech/node-scaling.toml; not ELSA's paper. An estimate
// that belongs beside the unscaled figures, never in their place. Files are read by the caller.
#ifndef ELSA_COST_NODE_SCALING_H_
#define ELSA_COST_NODE_SCALING_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/cost/technology.h"

namespace elsa::cost {

struct ProcessNode {
  std::int64_t node_nm = 0;
  double vdd_v = 0;  // supply voltage
  double area = 0;   // relative
  double energy_a2 = 0;
  double energy_a1 = 0;
  double energy_a0 = 0;
  // Energy per operation at a supply voltage, relative.
  double Energy(double volts) const { return (energy_a2 * volts + energy_a1) * volts + energy_a0; }
};

struct NodeScaling {
  std::string name;
  std::string source;
  std::string checked;  // how the numbers were verified
  std::vector<ProcessNode> nodes;
  // Errors: kInvalidArgument naming the nodes there are.
  const ProcessNode& At(std::int64_t node_nm) const;
};

// Reads the factors: sections of one node each.
// Errors: kInvalidFormat, "node-scaling.toml:12: nm7.area: expected a positive number, got x".
NodeScaling ParseNodeScaling(std::string_view toml, std::string_view name);

// The table as if built in another process, at the same clock. Area and dynamic power take the
// published factors; static power stays, as the equations say nothing about leakage at rest.
// Errors: kInvalidArgument if there is no such node.
Technology ScaleToNode(const Technology& technology, const NodeScaling& scaling,
                       std::int64_t node_nm);

}  // namespace elsa::cost

#endif  // ELSA_COST_NODE_SCALING_H_
