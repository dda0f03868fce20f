#include "elsa/simulation_report.h"

#include <algorithm>
#include <sstream>

#include "elsa/cost/area.h"
#include "elsa/cost/energy.h"
#include "elsa/cost/power.h"

namespace elsa {
namespace {

Json CausesJson(const sim::CauseCycles& cycles) {
  Json json = Json::object();
  for (std::size_t c = 0; c < sim::kCauses; ++c) {
    if (cycles[c] != 0) json[std::string(sim::Name(static_cast<sim::Cause>(c)))] = cycles[c];
  }
  return json;
}

Json CountersJson(const sim::Counters& c) {
  return {{"queries", c.queries},
          {"pairs", c.pairs},
          {"hashes", c.hashes},
          {"norms", c.norms},
          {"key_tests", c.key_tests},
          {"scan_rows", c.scan_rows},
          {"candidates", c.candidates},
          {"mean_rows", c.mean_rows},
          {"fallback_queries", c.fallback_queries},
          {"key_row_reads", c.key_row_reads},
          {"value_row_reads", c.value_row_reads},
          {"query_row_reads", c.query_row_reads},
          {"output_row_writes", c.output_row_writes},
          {"key_hash_writes", c.key_hash_writes},
          {"divided_rows", c.divided_rows},
          {"copied_bytes", c.copied_bytes}};
}

Json MatrixJson(const fixed::MatrixCounts& counts) {
  return {{"values", counts.values},
          {"saturated", counts.saturated},
          {"largest_use", counts.largest_use}};
}

Json FormatsJson(const fixed::FormatStats& stats) {
  return {{"query", MatrixJson(stats.host.query)},
          {"key", MatrixJson(stats.host.key)},
          {"value", MatrixJson(stats.host.value)},
          {"saturated_norms", stats.machine.saturated_norms},
          {"clamped_scores", stats.machine.clamped_scores},
          {"saturated_outputs", stats.machine.saturated_outputs}};
}

Json EnergyJson(const cost::EnergyReport& energy) {
  Json modules = Json::object();
  for (const cost::ModuleEnergy& module : energy.modules) {
    modules[std::string(cost::Name(module.module))] = {{"total", module.Total()},
                                                       {"dynamic", module.dynamic_pj},
                                                       {"static", module.static_pj},
                                                       {"events", module.events},
                                                       {"provenance", module.provenance}};
  }
  Json groups = Json::object();
  for (std::size_t g = 0; g < cost::kGroups; ++g) {
    groups[std::string(cost::Name(static_cast<cost::Group>(g)))] = energy.by_group_pj[g];
  }
  return {{"total", energy.Total()}, {"groups", groups}, {"modules", modules}};
}

Json AreaJson(const cost::AreaReport& area) {
  Json modules = Json::object();
  for (const cost::ModuleArea& module : area.modules) {
    modules[std::string(cost::Name(module.module))] = {
        {"total", module.mm2}, {"instances", module.instances}, {"provenance", module.provenance}};
  }
  return {{"total", area.Total()},
          {"accelerator", area.accelerator_mm2},
          {"external_memories", area.external_mm2},
          {"all_accelerators", area.AllMachines()},
          {"modules", modules}};
}

Json PowerJson(const cost::PowerReport& power) {
  return {{"total", power.Total()},
          {"accelerator", power.accelerator_mw},
          {"external_memories", power.external_mw},
          {"all_accelerators", power.AllMachines()}};
}

Json AdviceJson(const TraceRun& run) {
  if (!run.advice) return {};
  Json trials = Json::array();
  for (const sim::Trial& trial : run.advice->trials) {
    trials.push_back({{"parameter", trial.parameter},
                      {"from", trial.from},
                      {"to", trial.to},
                      {"cycles", trial.cycles},
                      {"speedup", trial.speedup}});
  }
  return {{"sentence", run.advice->sentence},
          {"heads", run.advice_heads},
          {"bound", sim::Name(run.advice->bound)},
          {"bound_share", run.advice->bound_share},
          {"preprocess_share", run.advice->preprocess_share},
          {"trials", trials}};
}

double Seconds(const Config& config, std::int64_t cycles) {
  return static_cast<double>(cycles) / static_cast<double>(config.clock_hz);
}

// What a head, a layer and the whole trace have in common.
Json RunJson(const HeadRun& run) {
  Json json{{"operations", run.report.heads},
            {"cycles", run.report.cycles},
            {"command_cycles", run.report.command_cycles},
            {"copy_cycles", run.report.copy_cycles},
            {"preprocess_cycles", run.report.preprocess_cycles},
            {"execute_cycles", run.report.execute_cycles},
            {"stall_cycles", CausesJson(run.report.machine)},
            {"candidates", run.report.counters.candidates},
            {"pairs", run.stats.pairs},
            {"kept_fraction", run.stats.kept_fraction()},
            {"fallback_queries", run.stats.fallback_queries},
            {"longest_queue", run.report.longest_queue}};
  if (run.error) json["output_rel_l2"] = run.error->Relative();
  return json;
}

}  // namespace

Json SimulationJson(const Config& config, const cost::Technology& technology, const TraceRun& run) {
  Json json = RunJson(run.total);
  const std::int64_t operations = std::max<std::int64_t>(1, run.total.report.heads);
  json["latency_s"] = Seconds(config, run.total.report.cycles) / static_cast<double>(operations);
  json["accelerators"] = config.accelerators;
  json["makespan_cycles"] = run.makespan_cycles;
  json["makespan_s"] = Seconds(config, run.makespan_cycles);
  json["utilisation"] = run.utilisation;
  Json modules = Json::object();
  for (std::size_t m = 0; m < sim::kModules; ++m) {
    modules[std::string(sim::Name(static_cast<sim::Module>(m)))] = {
        {"instances", run.total.report.instances[m]},
        {"cycles", CausesJson(run.total.report.modules[m])}};
  }
  json["modules"] = modules;
  json["counters"] = CountersJson(run.total.report.counters);
  json["formats"] = FormatsJson(run.total.formats);
  json["technology"] = technology.Provenance();
  json["energy_pj"] = EnergyJson(cost::Energy(config, technology, run.total.report));
  json["area_mm2"] = AreaJson(cost::Area(config, technology));
  json["peak_power_mw"] = PowerJson(cost::PeakPower(config, technology));
  json["advice"] = AdviceJson(run);
  Json layers = Json::array();
  for (const std::vector<HeadRun>& heads : run.heads) {
    HeadRun sum;
    Json heads_json = Json::array();
    for (const HeadRun& head : heads) {
      sum += head;
      Json one{{"head", heads_json.size()}};
      one.update(RunJson(head));
      one["energy_pj"] = cost::Energy(config, technology, head.report).Total();
      heads_json.push_back(one);
    }
    Json layer{{"layer", layers.size()}};
    layer.update(RunJson(sum));
    layer["energy_pj"] = cost::Energy(config, technology, sum.report).Total();
    layer["heads"] = heads_json;
    layers.push_back(layer);
  }
  json["layers"] = layers;
  return json;
}

Json MachineJson(const sim::MachineResult& result, double ideal_cycles) {
  Json json{{"machine", result.machine},
            {"model", sim::Name(result.model)},
            {"operations", result.heads},
            {"cycles", result.cycles},
            {"preprocess_cycles", result.preprocess_cycles},
            {"selection_cycles", result.selection_cycles},
            {"cycles_over_ideal",
             result.cycles > 0 && ideal_cycles > 0 ? Json(result.cycles / ideal_cycles) : Json()},
            {"latency_s", result.latency_s / std::max(1.0, static_cast<double>(result.heads))},
            {"batch_s", result.batch_s},
            {"batch_min_s", result.batch_min_s},
            {"batch_max_s", result.batch_max_s},
            {"pairs", result.pairs},
            {"scored_pairs", result.scored_pairs},
            {"kept_pairs", result.kept_pairs},
            {"mass_kept", result.mass_sum > 0 ? Json(result.MassKept()) : Json()},
            {"packing_utilisation", result.PackingUtilisation()},
            {"notes", result.notes}};
  return json;
}

std::string SimulationCsv(const Config& config, const cost::Technology& technology,
                          const TraceRun& run) {
  std::ostringstream csv;
  csv.imbue(std::locale::classic());
  csv.precision(10);
  csv << "layer,head,operations,cycles,preprocess_cycles,execute_cycles,candidates,pairs,"
         "kept_fraction,fallback_queries,longest_queue,energy_pj";
  for (std::size_t c = 0; c < sim::kCauses; ++c) {
    csv << "," << sim::Name(static_cast<sim::Cause>(c)) << "_cycles";
  }
  csv << ",output_rel_l2\n";
  for (std::size_t layer = 0; layer < run.heads.size(); ++layer) {
    for (std::size_t head = 0; head < run.heads[layer].size(); ++head) {
      const HeadRun& one = run.heads[layer][head];
      csv << layer << "," << head << "," << one.report.heads << "," << one.report.cycles << ","
          << one.report.preprocess_cycles << "," << one.report.execute_cycles << ","
          << one.report.counters.candidates << "," << one.stats.pairs << ","
          << one.stats.kept_fraction() << "," << one.stats.fallback_queries << ","
          << one.report.longest_queue << ","
          << cost::Energy(config, technology, one.report).Total();
      for (const std::int64_t cycles : one.report.machine) csv << "," << cycles;
      csv << ",";
      if (one.error) csv << one.error->Relative();
      csv << "\n";
    }
  }
  return csv.str();
}

}  // namespace elsa
