"""Language pairs that an engine lacks are refused before any work; the message names engines that have them."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ccr import params
from ccr.artifacts.jobs import job_key
from ccr.errors import CcrError

FILE = Path(__file__).parents[1] / "params.yaml"
TARGET = "data/flickr8k/translations/tried/{lang}.parquet"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Plans of a data set into these languages with a variant `tried`; PATH has only the test's own `bin`."""
    raw = yaml.safe_load(FILE.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("APERTIUM_DATADIR", raising=False)

    def planned(langs, mt=None, **variant):
        changed = copy.deepcopy(raw)
        changed["translate"]["variants"]["tried"] = variant
        changed["datasets"]["flickr8k"] |= {"target_langs": langs} | ({"mt": mt} if mt else {})
        return params.plan(params.validate(changed))

    return planned


@pytest.fixture
def apertium(tmp_path):
    """An installed command `apertium` with the mode eng-spa."""
    (tmp_path / "share/apertium/modes").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apertium").touch(0o755)
    (tmp_path / "data.bin").write_text("old")
    (tmp_path / "share/apertium/modes/eng-spa.mode").write_text(f"lt-proc '{tmp_path}/data.bin'")


def test_a_service_that_lacks_a_data_sets_language_is_refused_with_params_yaml(plan):
    with pytest.raises(
        CcrError, match=r"datasets.flickr8k.mt: tried: deepl does not translate from 'en' to 'sw'.*goog"
    ):
        plan(["sw"], mt="tried", engine="deep_translator", service="deepl")
    plan(["sw"], mt="tried", engine="deep_translator", service="google")


@pytest.mark.parametrize(
    ("variant", "lang", "says"),
    [
        ({"engine": "deep_translator", "service": "deepl"}, "sw", "deepl does not translate from 'en' to 'sw'"),
        ({"engine": "deep_translator", "service": "mymemory"}, "is", "apertium (apt-get install apertium-isl-eng"),
        ({"engine": "apertium"}, "sw", "Other engines: deep_translator (service: google, mymemory, microsoft)"),
        ({"engine": "apertium"}, "sw", "transformers, with a model for this pair"),
        ({"engine": "dictionary", "path": "absent"}, "de", "translate.variants.tried.path: absent does not exist"),
        ({"engine": "dictionary", "path": "absent"}, "es", "; apertium;"),
    ],
)
def test_a_job_that_cannot_be_is_refused_in_planning(plan, apertium, monkeypatch, variant, lang, says):
    if says.startswith("apertium (apt"):
        monkeypatch.setattr("ccr.pairs.services.CODES", {"mymemory": ["en-GB"]})
    planned = plan([lang], **variant)
    with pytest.raises(CcrError) as error:
        planned.job(TARGET.format(lang=lang))
    assert says in str(error.value)


def test_a_pair_that_goes_one_way_only(plan, apertium):
    planned = plan(["es"], engine="apertium")
    assert planned.job(TARGET.format(lang="es")).settings["engine"] == "apertium"
    with pytest.raises(CcrError, match="no mode from 'es' to 'en'"):
        planned.job(TARGET.format(lang="es.back"))


def test_what_an_engine_reads_is_an_input_of_its_job(plan, apertium, tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words/en-es.tsv").write_text("dog\tperro\n")
    for engine, role, file in (("apertium", "modes", "data.bin"), ("dictionary", "dictionary", "words/en-es.tsv")):
        variant = {"engine": engine} | ({"path": "words"} if engine == "dictionary" else {})
        job = plan(["es"], **variant).job(TARGET.format(lang="es"))
        paths = job.inputs[role]
        assert file in " ".join(paths)
        first = job_key(replace(job, inputs={role: paths}))
        (tmp_path / file).write_text("gato\tcat\n")
        assert job_key(replace(job, inputs={role: paths})) != first


def test_a_pivot_is_a_language(plan):
    with pytest.raises(CcrError, match=r"params.yaml: translate.variants.tried.pivot: unknown language 'spanisch'"):
        plan(["fr"], engine="apertium", pivot="spanisch")


def test_planning_loads_no_translator():
    code = "from ccr import params; p = params.plan(params.load()); import sys; print('deep_translator' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=FILE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
