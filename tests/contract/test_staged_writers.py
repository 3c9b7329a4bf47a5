"""DESIGN §4, `fork` and `map(write=True)`: from other processes, and on servers in mode lock."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from ebooklet import S3Connection
from tests.contract.conftest import Place
from tests.contract.mapped import double, fail_on_three

pytestmark = pytest.mark.usefixtures("lean_processes")


@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_processes_write_into_the_bucket(place: Place) -> None:
    """What `func` returns is in no commit until it is merged, and then all of it is."""
    with place.open() as db:
        db.update({f"k{n}": n for n in range(10)})
        db.push()
        with pytest.raises(LookupError, match="k3 is three"):
            list(db.map(fail_on_three, n_workers=1, write=True))
        results = list(db.map(double, n_workers=2, write=True))
        assert db["k4"] == 4
        assert db.merge(*results, message="doubled").n_set == 5
        assert {key: value for key, value in db.items() if key in ("k2", "k3", "k8")} == {
            "k2": 4,
            "k3": 3,
            "k8": 16,
        }
    with place.open(file="cold", flag="r") as cold:
        assert dict(cold.items()) == {f"k{n}": n if n % 2 else 2 * n for n in range(10)}


def test_under_the_ticket_lock(locked_place: Place) -> None:
    """Writers take no lock where commits need one; the merge has it, and merging again finds it done.

    A writer carries the credentials of its connection, and a result none.
    """
    with locked_place.open() as db:
        db.push()
        pickled = pickle.dumps(db.fork())
        writer: Any = pickle.loads(pickled)
        with writer:
            writer.update({"a": 1, "b": "x" * 100})
        connection = locked_place.connect("db")
        assert isinstance(connection, S3Connection)
        secret = str(connection.access_key).encode()
        assert secret in pickled  # as in the connection's own, which docs/clusters.md says
        assert secret not in pickle.dumps(writer.result)
        merged = db.merge(writer.result)
        assert (db.commit_mode, merged.seq, merged.n_set) == ("lock", 2, 2)
        again = db.merge(writer.result)
        assert (again.updated, again.commit) == (False, merged.commit)
    with locked_place.open(file="cold", flag="r") as cold:
        assert dict(cold.items()) == {"a": 1, "b": "x" * 100}
