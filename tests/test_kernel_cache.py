"""Compiled code outlives a process, and no change of the sources."""

import importlib.util

from peer.perturbation import cpu_words

SOURCE = """
from peer.perturbation.cpu_words import kernel

@kernel
def double(number):
    return 2 * number
"""


def test_compiled_code_is_kept_for_the_sources_that_it_was_made_of(tmp_path, monkeypatch):
    path = tmp_path / "doubled.py"
    path.write_text(SOURCE)

    def is_found():
        spec = importlib.util.spec_from_file_location("doubled", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.double(21) == 42
        return sum(module.double.stats.cache_hits.values()) == 1

    assert not is_found()
    assert is_found()
    # Another file, which this kernel is built on, says something else now.
    monkeypatch.setattr(cpu_words._Cache, "sources", "others")
    assert not is_found()
    assert is_found()
