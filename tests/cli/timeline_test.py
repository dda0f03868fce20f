"""elsa simulate --timeline: the files are what Perfetto and Konata read.

Perfetto traces are decoded with Perfetto's own descriptors (PyPI `perfetto`). Kanata logs of the
same window must tell the same story: both name a candidate's query, key, bank and cycles.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cli_support import ROOT, assert_refused, make_plan, random_tensors, run_json, write_trace
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

EVENT = perfetto.TrackEvent
STATE_CLEARED = perfetto.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
NEEDS_STATE = perfetto.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE


@dataclass
class Slice:
    category: str
    name: str
    track: tuple[str, ...]  # from the root
    begin: int
    end: int = -1
    notes: dict = field(default_factory=dict)
    flows: list = field(default_factory=list)
    last_of: list = field(default_factory=list)


def read_perfetto(path: Path) -> tuple[list[Slice], dict]:
    """Slices and counters; asserts what Perfetto asks of a trace."""
    trace = perfetto.Trace.FromString(path.read_bytes())
    # A field that the format does not know, or of another type, would be lost on the way.
    assert len(trace.SerializeToString()) == path.stat().st_size
    trace.DiscardUnknownFields()
    assert len(trace.SerializeToString()) == path.stat().st_size
    first = trace.packet[0]
    assert first.first_packet_on_sequence and first.sequence_flags == STATE_CLEARED | NEEDS_STATE
    assert {p.trusted_packet_sequence_id for p in trace.packet} == {1}
    assert {p.sequence_flags for p in trace.packet[1:]} == {NEEDS_STATE}

    tables = {"event_names": {}, "event_categories": {}, "debug_annotation_names": {}}
    tracks, counters_of, open_slices, now = {}, {}, defaultdict(list), 0
    slices, counters = [], defaultdict(list)
    for packet in trace.packet:
        for table, names in tables.items():
            names.update((e.iid, e.name) for e in getattr(packet.interned_data, table))
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            above = tracks[track.parent_uuid] if track.HasField("parent_uuid") else ()
            assert track.uuid not in tracks
            tracks[track.uuid] = (*above, track.name)
            if track.HasField("counter"):
                counters_of[track.uuid] = tracks[track.uuid]
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        assert packet.timestamp >= now
        now = packet.timestamp
        stack = open_slices[event.track_uuid]
        if event.type == EVENT.TYPE_SLICE_BEGIN:
            (category,) = event.category_iids
            one = Slice(
                tables["event_categories"][category],
                tables["event_names"][event.name_iid],
                tracks[event.track_uuid],
                now,
                flows=list(event.flow_ids) + list(event.terminating_flow_ids),
                last_of=list(event.terminating_flow_ids),
            )
            for note in event.debug_annotations:
                name = tables["debug_annotation_names"][note.name_iid]
                one.notes[name] = getattr(note, note.WhichOneof("value"))
            assert not stack, "slices of one track overlap"
            stack.append(one)
            slices.append(one)
        elif event.type == EVENT.TYPE_SLICE_END:
            stack.pop().end = now
        else:
            assert event.type == EVENT.TYPE_COUNTER
            counters[counters_of[event.track_uuid]].append((now, event.counter_value))
    assert not any(open_slices.values()), "a slice does not end"
    return slices, counters


def read_kanata(path: Path) -> dict[str, dict]:
    """Rows by label: thread, retired type and stages {name: (begin, end)}."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[0] == ["Kanata", "0004"] and lines[1][0] == "C="
    cycle, rows = int(lines[1][1]), []
    for command, *args in lines[2:]:
        if command == "C":
            assert int(args[0]) > 0
            cycle += int(args[0])
        elif command == "I":
            assert int(args[0]) == len(rows)
            rows.append({"thread": int(args[2]), "stages": {}, "label": ""})
        else:
            row = rows[int(args[0])]
            assert "retired" not in row
            if command == "L" and args[1] == "0":
                row["label"] += args[2]
            elif command == "S":
                row["stages"][args[2]] = (cycle, None)
            elif command == "E":
                row["stages"][args[2]] = (row["stages"][args[2]][0], cycle)
            elif command == "R":
                row["retired"] = args[2]
            else:
                assert command == "L"
    assert all("retired" in row for row in rows)
    assert len({row["label"] for row in rows}) == len(rows)
    return {row["label"]: row for row in rows}


@dataclass
class Files:
    slices: list[Slice]
    counters: dict
    rows: dict
    report: dict

    def of(self, category: str) -> list[Slice]:
        return [s for s in self.slices if s.category == category]


# Options of the plan, of the machine, whether causal.
CASES = {
    "few keys": (["--p", 4], [], False),
    "many keys, short queues": (["--p", 0.01], ["--queue-depth", 1], False),
    "slow division": (["--p", 4], ["--division-multipliers", 1], False),
    "mean row": (["--p", 4, "--remainder", "mean"], ["--remainder", "mean"], False),
    "causal": (["--p", 1], [], True),
    "exact": (None, [], False),
}
QUERIES, BANKS = 16, 2  # of configs/tiny.toml


def candidates(files: Files) -> list[Slice]:
    return [s for s in files.of("attend") if "key" in s.notes]


def simulate(folder: Path, case: str, window: str) -> Files:
    plan, machine, causal = CASES[case]
    tensors = random_tensors(layers=1, batch=1, heads=1, n_q=QUERIES, d=8)
    trace = write_trace(folder / "t.safetensors", tensors, causal=causal)
    command = ["simulate", trace, "--config", ROOT / "configs/tiny.toml", *machine]
    if plan is not None:
        plan = make_plan(folder / "plan.json", trace, options=(*plan, "--hash-bits", 8))
        command += ["--plan", plan]
    command += ["--timeline-window", window]
    for name in ("perfetto", "kanata"):
        report = run_json(*command, "--timeline", folder / name, "--timeline-format", name)
    slices, counters = read_perfetto(folder / "perfetto")
    return Files(slices, counters, read_kanata(folder / "kanata"), report)


@pytest.fixture(scope="module", params=CASES)
def whole(request, tmp_path_factory) -> tuple[str, Files]:
    """Everything of one head."""
    return request.param, simulate(tmp_path_factory.mktemp("head"), request.param, "0:1000000")


def test_every_query_and_candidate_of_the_report_is_shown(whole):
    case, files = whole
    counts = files.report["counters"]
    assert len(candidates(files)) == counts["candidates"] > QUERIES
    assert len(files.of("attend")) == counts["candidates"] + counts["mean_rows"]
    assert (case == "mean row") == (counts["mean_rows"] > 0)
    assert len(files.of("hash_key")) == len(files.of("norm")) == counts["norms"]
    assert len(files.of("hash_query")) == len(files.of("divide")) == QUERIES
    assert len(files.of("scan")) == (0 if case == "exact" else QUERIES * BANKS)
    phases = {s.name: s.end - s.begin for s in files.of("phase")}
    assert phases["execute"] == files.report["execute_cycles"]
    assert files.of("phase")[-1].end == files.report["cycles"]
    stalled = sum(one.end - one.begin for one in files.of("stall"))
    selectors = files.report["modules"]["candidate_selector"]
    assert stalled == selectors["cycles"].get("queue_full", 0)
    assert (case == "many keys, short queues") == (stalled > 0)
    assert (case == "slow division") <= (len(files.of("held")) > 0)


def test_tracks_are_modules_and_their_slices_name_query_key_and_bank(whole):
    _, files = whole
    for one in files.slices:
        assert one.track[0] == "ELSA" and one.begin < one.end
        if "bank" in one.notes:
            assert one.track[1] == f"bank {one.notes['bank']}"
        if one.category == "attend" and "key" not in one.notes:
            assert one.name == f"q{one.notes['query']} mean row"
        elif one.category in ("queued", "attend"):
            assert one.name == f"q{one.notes['query']} k{one.notes['key']}"
            assert one.notes["key"] % BANKS == one.notes["bank"]
        if one.category == "queued":
            assert one.track[2:] == ("queues", f"selector {one.notes['selector']}")


def test_counters_are_the_candidates_in_the_queues(whole):
    """A queue holds a candidate from the push up to the pop, which is the slice's last cycle."""
    _, files = whole
    expected = {}
    for bank in range(BANKS):
        change = Counter()
        for one in files.of("queued"):
            if one.notes["bank"] == bank:
                change[one.begin] += 1
                change[one.end] -= 1
        queued, samples = 0, []
        for cycle in sorted(change):
            if change[cycle]:
                queued += change[cycle]
                samples.append((cycle, queued))
        if samples:
            expected["ELSA", f"bank {bank}", "queued candidates"] = samples
    assert files.counters == expected


def test_flows_lead_from_hash_to_division_in_every_bank(whole):
    case, files = whole
    flows = defaultdict(list)
    for one in files.slices:
        for flow in one.flows:
            flows[flow].append(one)
    scan = [] if case == "exact" else ["scan"]
    banks = defaultdict(set)
    for flow, path in flows.items():
        stages = [one.category for one in path]
        attended = stages.count("attend")
        assert stages == ["hash_query", *scan, *["attend"] * attended, "divide"]
        (query,) = {one.notes["query"] for one in path}
        bank = path[1].notes["bank"]
        own = [
            s for s in files.of("attend") if (s.notes["query"], s.notes["bank"]) == (query, bank)
        ]
        assert path[1 + len(scan) : -1] == ([own[0], own[-1]] if len(own) > 1 else own)
        assert [flow in one.last_of for one in path] == [False] * (len(path) - 1) + [True]
        banks[query].add(bank)
    assert len(banks) == QUERIES
    if case != "exact":
        assert set(map(len, banks.values())) == {BANKS}


def test_kanata_rows_tell_the_same_as_the_slices(whole):
    _, files = whole
    rows = {label: row for label, row in files.rows.items() if " bank " in label}
    attended = {f"{s.name} bank {s.notes['bank']}": s for s in files.of("attend")}
    queued = {f"{s.name} bank {s.notes['bank']}": s for s in files.of("queued")}
    assert rows.keys() == attended.keys() >= queued.keys()
    for label, row in rows.items():
        assert row["retired"] == "0" and row["thread"] == attended[label].notes["bank"]
        stages = row["stages"]
        assert (stages["Pk"][0], stages["Ac"][1]) == (attended[label].begin, attended[label].end)
        names = [name for name in ("Q", "Pk", "Rd", "Dt", "Ex", "Ac") if name in stages]
        for before, after in zip(names, names[1:], strict=False):
            assert stages[before][1] == stages[after][0]
        if "Q" in stages:
            assert stages["Q"][0] == queued[label].begin
    for query in range(QUERIES):
        row = files.rows[f"query {query}"]
        for stage, category in {
            "H": "hash_query", "S": "scan", "A": "attend", "D": "divide",
        }.items():  # fmt: skip
            mine = [s for s in files.of(category) if s.notes["query"] == query]
            span = (min(s.begin for s in mine), max(s.end for s in mine)) if mine else None
            assert row["stages"].get(stage) == span


def test_a_window_shows_what_touches_it_and_no_more(tmp_path, whole):
    case, files = whole
    begin = files.of("phase")[-2].begin + 20
    cut = simulate(tmp_path, case, f"{begin}:{begin + 15}")
    (window,) = cut.of("window")
    assert (window.begin, window.end) == (begin, begin + 15)
    assert window.notes["clock_hz"] == 1_000_000_000
    for category in ("hash_query", "scan", "queued", "attend", "divide"):
        expected = [
            (s.name, s.track, s.begin, s.end)
            for s in files.of(category)
            if s.begin < begin + 15 and s.end > begin
        ]
        got = [(s.name, s.track, s.begin, s.end) for s in cut.of(category)]
        assert sorted(got) == sorted(expected)


def test_every_track_category_and_stage_is_documented(whole):
    _, files = whole
    page = (ROOT / "docs/reference/timeline.md").read_text()
    words = {one.category for one in files.slices} | {one.track[-1] for one in files.slices}
    words |= {track[-1] for track in files.counters}
    words |= {stage for row in files.rows.values() for stage in row["stages"]}
    words = {word for word in words if not word.startswith("selector ")} | {"selector 0"}
    assert [word for word in sorted(words) if f"`{word}`" not in page] == []


def test_other_formats_are_refused(tmp_path):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(layers=1, n_q=16, d=8))
    assert_refused(
        tmp_path, "simulate", trace, "--config", ROOT / "configs/tiny.toml",
        "--timeline", tmp_path / "x", "--timeline-format", "json",
        words=["timeline format", "perfetto or kanata", "json"],
    )  # fmt: skip
