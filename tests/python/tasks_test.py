"""Data readers, tasks, their metrics and the bootstrap."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tiny_models
from elsa_attention import models, tasks
from elsa_attention.tasks import base, embedding, masked_token, readers

REACTIONS = ["CCO.BrCC>>CCOCC", "CC(C)S.Fc1cccnc1F.[K+]>>CC(C)Sc1ncccc1F"]


@pytest.fixture(scope="module")
def rxn_albert():
    return models.load("rxn-albert")


@pytest.fixture(scope="module")
def minilm():
    return models.load("minilm")


@pytest.fixture(scope="module")
def tiny_mlm(tmp_path_factory):
    return models.load(tiny_models.save(tmp_path_factory.mktemp("mlm"), "bert-mlm"))


# Readers


def test_bundled_reactions_are_unmapped_smiles_in_one_order():
    reactions = readers.bundled_reactions()
    assert len(reactions) >= 20
    assert "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F" in reactions
    assert reactions == sorted(set(reactions), key=lambda r: (len(r), r))
    for reaction in reactions:
        left, right = reaction.split(">>")
        assert left and right and " " not in reaction and ":" not in reaction, reaction


def test_order_and_repetition_of_the_input_do_not_matter():
    texts = [
        "CCO>>CC",
        "[CH3:1][CH2:2][OH:3]>>[CH3:1][CH3:2]",
        "N>>O |f:0.1|",
        ">>",
        "AAg>>C",
        "C>>",
    ]
    assert readers.unique_reactions(texts) == ["N>>O", "CCO>>CC"]
    assert readers.unique_reactions(texts[::-1] * 2) == ["N>>O", "CCO>>CC"]


@pytest.mark.parametrize(
    ("mapped", "plain"),
    [
        ("[CH3:1][CH2:2][OH:3]", "CCO"),
        ("[Br:12][CH2:2][c:3]1[n:4][cH:5]1", "BrCc1nc1"),
        ("[O-:3]~[Na+:7]", "[O-]~[Na+]"),
        ("[nH:4]1[cH:5][cH:6]1", "[nH]1cc1"),
        ("[C@@H:1]([F:2])[Cl:3]", "[C@@H](F)Cl"),
        ("[1*:1][*:2]", "[1*]*"),
        ("[13CH3:1][N+:2](=[O:3])[O-:4]", "[13CH3][N+](=O)[O-]"),
        ("[Si:1]([CH3:2])[Pd:3]", "[Si](C)[Pd]"),
        ("[Cu++:1]", "[Cu++]"),
        ("CC[O-].[Na+]", "CC[O-].[Na+]"),
    ],
)
def test_atom_maps_are_removed(mapped, plain):
    assert readers.remove_atom_maps(mapped) == plain


def test_spellings_of_one_reaction_share_a_key():
    # The pair is declared equivalent by the tests of rxnmapper.
    spellings = ["FCCC.O>>FCCCO", "O.C(C)CF>>OCCCF", "CCCF.O>>OCCCF"]
    assert len({readers.reaction_key(s) for s in spellings}) == 1
    assert readers.reaction_key("[Na+].[OH-]>>[Na]O") == readers.reaction_key("[Na]O>>[OH-].[Na+]")
    assert readers.reaction_key("ClCC>>C") != readers.reaction_key("CCC>>C")
    assert readers.reaction_key("C>>CC") != readers.reaction_key("CC>>C")


def test_reactions_are_read_from_lines_and_from_csv(tmp_path):
    lines, table = tmp_path / "r.txt", tmp_path / "r.csv"
    lines.write_text("\n".join(REACTIONS) + "\n\n")
    table.write_text("id,rxn\n" + "".join(f"{i},{r}\n" for i, r in enumerate(REACTIONS)))
    assert readers.read_reactions(lines) == REACTIONS
    assert readers.read_reactions(table) == REACTIONS


def test_lee_corpus_is_whole_and_split_cleanly():
    documents, background = readers.lee_documents(), readers.lee_background()
    assert (len(documents), len(background)) == (50, 300)
    assert not set(documents) & set(background)
    assert any(not d.isascii() for d in documents)  # Latin-1, decoded
    assert documents[0].startswith("The national executive of the strife-torn Democrats")


def test_lee_similarities_are_the_files_upper_triangle():
    human = readers.lee_similarities()
    assert human.shape == (50, 50)
    assert np.array_equal(human, human.T)
    assert np.array_equal(np.diag(human), np.ones(50))
    assert human.min() >= 0 and human.max() <= 1
    assert human[0, 1:5].tolist() == [0.3, 0.24, 0.2, 0.3]  # the first line of the file


def test_bad_bytes_are_named_by_line_and_column(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"fine\r\nna\xefve\n")
    with pytest.raises(
        ValueError, match=r"t.txt:2: expected UTF-8 text, got byte 0xef at column 3"
    ):
        readers.read_documents(path)


def test_documents_are_lines_without_blank_ones(tmp_path):
    path = tmp_path / "t.txt"
    # A line separator inside a line does not end it.
    path.write_text("one\r\n\n  two\u2028still two \n", encoding="utf-8")
    assert readers.read_documents(path) == ["one", "two\u2028still two"]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (readers.read_documents, "expected one document per line, got no text"),
        (readers.read_reactions, "expected reactions such as .*, got none"),
    ],
)
def test_a_file_without_content_is_refused(tmp_path, read, message):
    path = tmp_path / "t.txt"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match=message):
        read(path)


# The protocol


def test_batches_hold_every_row_once_padded_on_the_right():
    sequences = [[7] * n for n in (5, 1, 400, 3, 400, 2, 2)]
    seen = []
    for rows, batch in base.batches(sequences, pad_id=9, max_sequences=3):
        assert len(rows) <= 3
        for line, row in enumerate(rows):
            length = len(sequences[row])
            assert batch["input_ids"][line, :length].tolist() == sequences[row]
            assert set(batch["input_ids"][line, length:].tolist()) <= {9}
            assert batch["attention_mask"][line].sum() == length
        seen += rows
    assert sorted(seen) == list(range(7))
    assert [len(sequences[row]) for row in seen] == sorted(map(len, sequences))


def test_interval_agrees_with_the_normal_approximation():
    # 400 reactions of one masked token each: the change is a mean of independent -1, 0, 1.
    rng = np.random.RandomState(3)
    before = rng.rand(400) < 0.9
    after = np.where(rng.rand(400) < 0.15, ~before, before)
    task = tasks.make("masked-token")
    scores = [np.stack([x.astype(float), np.ones(400)], axis=1) for x in (before, after)]
    exact, other = (
        tasks.TaskResult("", "", s[:, 0].mean(), np.empty(0), s, 0, 0, 0) for s in scores
    )
    change = task.change(exact, other)
    difference = after.astype(float) - before
    error = difference.std() / 20
    assert change.value == pytest.approx(difference.mean())
    assert change.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.2 * error)
    assert change.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.2 * error)
    assert change.relative == pytest.approx(difference.mean() / before.mean())
    assert change.relative_low < change.relative < change.relative_high


def test_unknown_tasks_and_unusable_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of masked-token, .*, got 'other'"):
        tasks.make("other")
    with pytest.raises(ValueError, match="fidelity: expected a data file, got none"):
        tasks.make("fidelity")
    with pytest.raises(ValueError, match="doc-similarity: expected no data file"):
        tasks.make("doc-similarity", tmp_path)
    with pytest.raises(ValueError, match="limit: expected at least 2 examples, got 1"):
        tasks.make("masked-token", limit=1)


# masked-token


def test_every_token_is_masked_once_per_round(rxn_albert, tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("\n".join(REACTIONS))
    task = tasks.make("masked-token", path)
    # Two reactions: the shorter one is evaluated, the other one calibrates.
    original = np.array(rxn_albert.tokenizer.encode(REACTIONS[0], 512))
    inputs = np.array(task.evaluation_sequences(rxn_albert))
    masked = inputs == rxn_albert.tokenizer.mask_id
    rounds = masked[:, 1].sum()
    assert masked.sum() >= 3000
    assert masked[:, 1:-1].sum(axis=0).tolist() == [rounds] * (len(original) - 2)
    assert not masked[:, [0, -1]].any()
    assert set(masked.sum(axis=1)) == {1, 2}  # 13 tokens in 7 sets
    assert np.array_equal(np.where(masked, original, inputs), np.tile(original, (len(inputs), 1)))
    assert len(np.unique(masked, axis=0)) > 7  # the sets differ between rounds


def test_calibration_and_evaluation_share_no_reaction(rxn_albert):
    task = tasks.make("masked-token")
    halves = [
        {readers.reaction_key(text) for group in half for text in group}
        for half in task._split(rxn_albert)
    ]
    assert not halves[0] & halves[1]
    assert abs(len(halves[0]) - len(halves[1])) <= 1
    calibration = task.calibration_sequences(rxn_albert)
    lengths = {
        len(rxn_albert.tokenizer.encode(t, 512)) for g in task._split(rxn_albert)[0] for t in g
    }
    assert {len(s) for s in calibration} == lengths
    assert all(rxn_albert.tokenizer.mask_id in s for s in calibration)


def test_masked_token_on_the_bundled_reactions(rxn_albert):
    task = tasks.make("masked-token")
    exact = task.evaluate(rxn_albert)
    # Toy reactions of a test suite, some chemically odd: far from the .99 of patent reactions.
    assert exact.metric == pytest.approx(0.77, abs=0.02)
    assert exact.scores[:, 1].sum() == len(exact.predictions) >= 2500
    assert exact.pairs == 96 * sum(len(s) ** 2 for s in task.evaluation_sequences(rxn_albert))
    assert task.fidelity(exact, exact) == {"name": "prediction_agreement", "value": 1.0}
    assert task.change(exact, exact) == base.Change(0, 0, 0, 0, 0, 0)


def test_masked_accuracy_equals_one_sequence_at_a_time(tiny_mlm, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(masked_token, "_MIN_MASKED", 20)
    path = tmp_path / "t.txt"
    path.write_text("the cat sat on a mat\nthe dog\none two three four five six seven eight\na b")
    task = tasks.make("masked-token", path)
    got = task.evaluate(tiny_mlm)
    inputs = task.evaluation_sequences(tiny_mlm)
    originals = {
        len(ids): ids
        for line in path.read_text().splitlines()
        for ids in [tiny_mlm.tokenizer.encode(line, 32)]
    }
    correct = predicted = 0
    for ids in inputs:
        with torch.inference_mode():
            best = tiny_mlm.model(input_ids=torch.tensor([ids])).logits[0].argmax(dim=-1)
        for position, token in enumerate(ids):
            if token == tiny_mlm.tokenizer.mask_id:
                assert best[position] == got.predictions[predicted]
                correct += int(best[position] == originals[len(ids)][position])
                predicted += 1
    assert predicted == len(got.predictions)
    assert got.metric == correct / predicted


def test_masked_token_needs_a_masked_language_model_and_data(minilm, tiny_mlm):
    with pytest.raises(ValueError, match="expected a masked language model, got BertModel"):
        tasks.make("masked-token").evaluate(minilm)
    with pytest.raises(ValueError, match="expected a data file, got none"):
        tasks.make("masked-token").evaluate(tiny_mlm)


def test_masked_token_needs_two_examples(tiny_mlm, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("the cat\nthe cat\n")
    with pytest.raises(ValueError, match="expected at least 2 examples, got 1"):
        tasks.make("masked-token", path).calibration_sequences(tiny_mlm)


def test_limit_bounds_the_examples(tiny_mlm, tmp_path, monkeypatch):
    monkeypatch.setattr(masked_token, "_MIN_MASKED", 20)
    path = tmp_path / "t.txt"
    path.write_text("\n".join(f"the {word}" for word in tiny_models.WORDS))
    assert tasks.make("masked-token", path, limit=6).evaluate(tiny_mlm).examples == 3
    assert tasks.make("fidelity", path, limit=6).evaluate(tiny_mlm).examples == 3


# doc-similarity and fidelity


def test_minilm_reaches_its_known_correlation_with_people(minilm):
    import torch
    from scipy.stats import pearsonr

    task = tasks.make("doc-similarity")
    exact = task.evaluate(minilm)
    assert exact.metric == pytest.approx(0.656, abs=0.001)
    # A second implementation: one document at a time, so without padding and masks.
    vectors = []
    for document in readers.lee_documents():
        batch = minilm.tokenizer.encode_batch([document], 256)
        with torch.inference_mode():
            mean = minilm.model(**batch).last_hidden_state[0].double().mean(dim=0).numpy()
        vectors.append(mean / np.linalg.norm(mean))
    vectors = np.array(vectors)
    assert np.abs(vectors - exact.predictions).max() < 1e-5
    human, pairs = readers.lee_similarities(), [(i, j) for j in range(50) for i in range(j)]
    cosine = [vectors[i] @ vectors[j] for i, j in pairs]
    expected = pearsonr(cosine, [human[i, j] for i, j in pairs]).statistic
    assert exact.metric == pytest.approx(expected, abs=1e-5)


def test_a_documents_pair_with_itself_does_not_count():
    task = tasks.make("doc-similarity")
    vectors = np.random.RandomState(0).randn(50, 8)
    once = task.metric_of(vectors, vectors, np.array([4, 7, 9, 30]))
    # Every pair of different documents appears four times, each document's own pair is left out.
    twice = task.metric_of(vectors, vectors, np.array([4, 7, 9, 30] * 2))
    assert twice == pytest.approx(once)


def test_calibration_documents_are_background_documents(minilm):
    task = tasks.make("doc-similarity")
    known = {tuple(minilm.tokenizer.encode(d, 256)) for d in readers.lee_background()}
    chosen = task.calibration_sequences(minilm)
    assert len(chosen) == 32
    assert {tuple(s) for s in chosen} <= known
    batches = list(task.calibration_batches(minilm))
    assert sum(len(b["input_ids"]) for b in batches) == 32


def test_cls_pooling_takes_the_first_token(tiny_mlm):
    import torch

    ids = tiny_mlm.tokenizer.encode("the cat sat", 32)
    with torch.inference_mode():
        hidden = tiny_mlm.model.bert(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    first = embedding.embed([ids], dataclasses.replace(tiny_mlm, pooling="cls"))[0]
    assert first == pytest.approx(hidden[0] / np.linalg.norm(hidden[0]), abs=1e-6)
    mean = embedding.embed([ids], tiny_mlm)[0]
    assert mean == pytest.approx(hidden.mean(0) / np.linalg.norm(hidden.mean(0)), abs=1e-6)


def test_fidelity_is_the_mean_cosine_to_the_exact_embeddings(tiny_mlm, tmp_path):
    import torch

    path = tmp_path / "t.txt"
    path.write_text("the cat sat\nthe dog\none two three\nfour five")
    task = tasks.make("fidelity", path)
    exact = task.evaluate(tiny_mlm)
    assert exact.metric == pytest.approx(1.0)
    query = tiny_mlm.model.bert.encoder.layer[0].attention.self.query.weight
    saved = query.detach().clone()
    try:
        with torch.no_grad():
            query.zero_()
        other = task.evaluate(tiny_mlm, exact)
    finally:
        with torch.no_grad():
            query.copy_(saved)
    by_hand = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(exact.predictions, other.predictions, strict=True)
    ]
    assert 0 < other.metric < 1
    assert other.metric == pytest.approx(np.mean(by_hand))
    assert task.fidelity(exact, other)["value"] == pytest.approx(np.mean(by_hand))
    change = task.change(exact, other)
    assert change.low <= change.value <= change.high <= 0


def test_a_byte_order_mark_is_not_text(tmp_path):
    from elsa_attention.tasks import readers

    text, table = tmp_path / "t.txt", tmp_path / "t.csv"
    text.write_bytes(b"\xef\xbb\xbfone two\n")
    table.write_bytes(b"\xef\xbb\xbfrxn\nCCO.BrCC>>CCOCC\n")
    assert readers.read_documents(text) == ["one two"]
    assert readers.read_reactions(table) == ["CCO.BrCC>>CCOCC"]
