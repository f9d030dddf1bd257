"""To the hub and back, through huggingface_hub itself, to a server on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.checkpoint.hub_server import hub

ROOT = Path(__file__).parents[2]
# In a process of its own: the address of the hub is read on import.
SCRIPT = """
import sys
from pathlib import Path
import torch, transformers, xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.compression_state import state_of, update_state

out = Path(sys.argv[1])
model = tiny_model(layers=1).eval()
model.config._name_or_path = "someone/tiny-bert"
xtc_ds.compress(model, ds_config(block(2)))
xtc_ds.export_packed(model, out, scores={"accuracy": 0.875}, about={"dataset": "someone/sentences"})
packed = xtc_ds.load(out)
packed.push_to_hub("me/tiny", token="hf_test", tags=["mine"])
# Again, now that the hub has a card.
update_state(packed, about={**state_of(packed).about, "scores": {"accuracy": 0.5}})
packed.save_pretrained(out.with_name("again"), push_to_hub=True, repo_id="me/again", token="hf_test")
update_state(packed, about={**state_of(packed).about, "scores": {"accuracy": 0.75}})
packed.push_to_hub("me/again", token="hf_test")

inputs = batch(labels=False)
with torch.no_grad():
    expected = packed(**inputs).logits
    for loaded in (
        transformers.AutoModelForSequenceClassification.from_pretrained("me/tiny"),
        xtc_ds.load("me/tiny"),
    ):
        assert torch.equal(loaded(**inputs).logits, expected)
try:
    xtc_ds.load("me/absent")
except xtc_ds.XtcError as error:
    assert "the hub does not give it" in str(error), error
"""


@pytest.mark.slow
def test_a_model_goes_to_the_hub_and_comes_back(tmp_path: Path) -> None:
    with hub() as server:
        variables = {
            "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "out")], env=os.environ | variables, cwd=ROOT, timeout=120,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
    assert {"PUT", "HEAD", "GET", "POST"} == {call.split()[0] for call in server.calls}
    saved = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    pushed = server.repositories["me/tiny"]
    card = ModelCard(pushed.pop("README.md").decode())
    local = saved.pop("README.md").decode()
    assert set(saved) == {"config.json", "model.safetensors"}
    assert pushed == saved
    # The card's text is that of the folder, but for the repository's name.
    assert card.text.replace('"me/tiny"', '"PATH_OR_ID"').strip() == ModelCard(local).text.strip()
    assert "| ternary | 1.58 |" in card.text
    assert "before compression, in 32 bits," in card.text
    assert "bits each on average" in card.text
    assert "| accuracy | 0.875 |" in card.text
    data = card.data.to_dict()
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-classification"
    assert data["tags"] == ["xtc", "quantized", "mine"]
    assert (data["base_model"], data["base_model_relation"]) == ("someone/tiny-bert", "quantized")
    assert data["datasets"] == ["someone/sentences"]
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("someone/sentences", "accuracy", 0.875)
    again = server.repositories["me/again"]["README.md"].decode()
    assert "| accuracy | 0.75 |" in again
    assert "0.5 |" not in again
