"""How the parts are joined."""

from pathlib import Path

import pytest

from inferd.api.app import cluster_id
from inferd.config import ConfigError


@pytest.mark.parametrize("left", [None, b"", b"\xff\xfe"])
def test_the_clusters_id_is_made_once(tmp_path: Path, left: bytes | None) -> None:
    """22 letters that stay; what a process killed while writing left behind is none."""
    if left is not None:
        (tmp_path / "cluster_uuid").write_bytes(left)
    made = cluster_id(tmp_path)
    assert (len(made), cluster_id(tmp_path), cluster_id(tmp_path)) == (22, made, made)
    assert [file.name for file in tmp_path.iterdir()] == ["cluster_uuid"]


def test_a_clusters_id_that_cannot_be_kept_is_told_by_name(tmp_path: Path) -> None:
    """The file and the reason, not the address that would be listened on."""
    (tmp_path / "cluster_uuid").mkdir()
    with pytest.raises(ConfigError, match=r"cluster_uuid: Is a directory"):
        cluster_id(tmp_path)
