"""The registry: one door, lazy, and clear about what is missing, broken or claimed twice."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest

from ebooklet.core.guarded_serializer import GuardedSerializer
from ebooklet.errors import AccessDenied, PluginError, UnknownNameError
from ebooklet.plugins.groups import LOCAL_STORES, LOCK_SERVICES, REMOTE_STORES, SERIALIZERS
from ebooklet.plugins.registry import EntryPointSource, Registry, installed_entry_points
from ebooklet.ports.serializer import Serializer


def package(folder: Path, name: str, entry_points: str, **modules: str) -> Distribution:
    """An installed package: its modules and its metadata, as pip would leave them in `folder`."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    return Distribution.at(info)


def points(*packages: Distribution) -> EntryPointSource:
    """Entry points of the installed ebooklet and of more packages."""

    def source() -> Iterable[EntryPoint]:
        yield from installed_entry_points()
        for each in packages:
            yield from each.entry_points

    return source


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, as site-packages is."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


GOOD = "class Good:\n    name = 'good'\n    safe = True\n    dumps = loads = staticmethod(bytes)\nGOOD = Good()\n"


RIVAL = "class J(Good):\n    name = 'json'\nJ = J()\n"
ODD = """
RAISED = []

def X(*args, **kwargs):
    for each in RAISED:
        raise each
    return 42
"""


TURNED = """
from ebooklet.core.serializer_names import wrapped_name

class Turned:
    safe = True

    def __init__(self, inner, options):
        self.inner, self.name = inner, wrapped_name(inner.name, "turned", options)

    def dumps(self, value):
        return self.inner.dumps(value)[::-1]

    def loads(self, data):
        return self.inner.loads(data[::-1])

def wrap(inner, options=""):
    if options not in ("", "2"):
        raise ValueError("once or twice")
    return Turned(inner, options)

def plain(inner):
    return Turned(inner, "")
"""
INSIDE = ("pd_zstd", "gpd_zstd")  # formats that compress by themselves


class TestBuiltIns:
    """What this package registers, through the door that everybody uses."""

    @pytest.mark.parametrize(
        "name",
        [
            *(None, "bytes", "str", "pickle", "json", "orjson", "cbor", "zstd"),
            *("json+zstd", "cbor+zstd", "pickle_zstd", "orjson_zstd", "pickle+zstd"),
        ],
    )
    def test_serializers_are_found_by_name(self, name: str | None) -> None:
        """Every promised name gives a serializer, and asking again gives the same one."""
        registry = Registry()
        found = registry.serializer(name)
        assert isinstance(found, Serializer)
        assert registry.serializer(found.name) is found

    def test_only_pickle_is_unsafe(self) -> None:
        """`safe` is False for pickle, wrapped or not, and True for the rest."""
        registry = Registry()
        names = [n for n in registry.names(SERIALIZERS) if not n.startswith("+")]
        unsafe = {
            each.name
            for name in names
            for spelled in ([name] if name in INSIDE else [name, f"{name}+zstd"])
            for each in (registry.serializer(spelled),)
            if not each.safe
        }
        assert unsafe == {"pickle", "pickle_zstd"}

    def test_the_memory_store_is_found_by_scheme(self) -> None:
        """A scheme gives what opens its URLs."""
        opener = Registry().remote_store("memory")
        assert opener.__module__ == "ebooklet.adapters.remote.memory"

    def test_every_group_lists_its_names(self) -> None:
        """Each group has its built-ins, sorted."""
        registry = Registry()
        assert {"bytes", "json", "pickle"} <= set(registry.names(SERIALIZERS))
        assert {"file", "memory", "s3"} <= set(registry.names(REMOTE_STORES))
        assert {"booklet", "memory"} <= set(registry.names(LOCAL_STORES))
        assert {"file", "lease", "none", "ticket"} <= set(registry.names(LOCK_SERVICES))
        assert list(registry.names(REMOTE_STORES)) == sorted(registry.names(REMOTE_STORES))


class TestOthers:
    """What other packages register."""

    def test_a_third_partys_serializer_composes_with_zstd(self, site: Path) -> None:
        """A plugin's format is as good as a built-in one, wrapped too."""
        mine = package(
            site, "third-party", f"[{SERIALIZERS}]\ngood = good_one:GOOD\n", good_one=GOOD
        )
        registry = Registry(points(mine))
        assert registry.serializer("good").dumps(b"x") == b"x"
        wrapped = registry.serializer("good+zstd")
        assert wrapped.name == "good+zstd"
        assert wrapped.loads(wrapped.dumps(b"x" * 1000)) == b"x" * 1000

    def test_wrappers_compose_in_the_order_of_the_name(self, site: Path) -> None:
        """A plugin's wrapper stands inside or outside of zstd, as the name says, with its options."""
        mine = package(
            site, "third-party", f"[{SERIALIZERS}]\n+turned = turned_mod:wrap\n", turned_mod=TURNED
        )
        registry = Registry(points(mine))
        plain = b"some text to be compressed " * 9
        for name in ("bytes+turned:2+zstd", "bytes+zstd+turned", "json+turned"):
            found = registry.serializer(name)
            assert found.name == name
            value = plain.decode() if name[:4] == "json" else plain
            assert found.loads(found.dumps(value)) == value
        inside, outside = map(registry.serializer, ("bytes+turned:2+zstd", "bytes+zstd+turned"))
        assert inside.dumps(plain)[:4] == outside.dumps(plain)[:-5:-1] == b"\x28\xb5\x2f\xfd"
        assert registry.serializer("zstd+turned:2+bytes") is inside

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("json+turned:3", "'turned' has no options '3' \\(once or twice\\)"),
            ("json+plain:9", "'plain' takes no options; write '\\+plain'"),
            ("json:9", "'json' takes no options"),
            ("json+orjson", "'orjson' is a format, not a wrapper"),
            ("turned+json", "'turned' is a wrapper, and comes after the format"),
        ],
    )
    def test_what_does_not_fit_together_is_said(self, site: Path, name: str, why: str) -> None:
        """Options nobody takes, two formats, a wrapper in the format's place: the message says so."""
        mine = package(
            site,
            "third-party",
            f"[{SERIALIZERS}]\n+turned = turned_mod:wrap\n+plain = turned_mod:plain\n",
            turned_mod=TURNED,
        )
        with pytest.raises(UnknownNameError, match=why):
            Registry(points(mine)).serializer(name)

    def test_a_scheme_family_falls_to_its_plugin(self, site: Path) -> None:
        """`fam+anything` is opened by the plugin `fam`, unless one claims the whole scheme."""
        mine = package(
            site,
            "third-party",
            f"[{REMOTE_STORES}]\nfam = fam_mod:family\nfam+own = fam_mod:own\n",
            fam_mod="def family(a): ...\ndef own(a): ...\n",
        )
        registry = Registry(points(mine))
        assert registry.remote_store("fam+gs").__name__ == "family"
        assert registry.remote_store("fam").__name__ == "family"
        assert registry.remote_store("fam+own").__name__ == "own"

    def test_nothing_is_imported_before_it_is_asked_for(self, site: Path) -> None:
        """Listing names and using others imports nothing of a plugin."""
        mine = package(site, "third-party", f"[{SERIALIZERS}]\nlazy = lazy_one:X\n", lazy_one="1/0")
        registry = Registry(points(mine))
        assert "lazy" in registry.names(SERIALIZERS)
        assert registry.serializer("json").name == "json"
        assert "lazy_one" not in sys.modules

    def test_an_embedder_needs_no_installation(self) -> None:
        """A registry over given entry points knows those and nothing else."""
        point = EntryPoint("mine", "ebooklet.serializers.json:JSON", SERIALIZERS)
        registry = Registry(lambda: [point])
        assert registry.names(SERIALIZERS) == ("mine",)
        assert registry.names(REMOTE_STORES) == ()

    def test_a_package_found_twice_on_the_path_is_one(self, site: Path) -> None:
        """The same registration seen twice (an editable install beside another) is no rivalry."""
        mine = package(
            site, "third-party", f"[{SERIALIZERS}]\ngood = good_two:GOOD\n", good_two=GOOD
        )
        assert Registry(points(mine, mine)).serializer("good").name == "good"


class TestFailures:
    """Each failure names the thing, the package and the remedy, and touches nothing else."""

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        """The message has every known name, so that a typo is seen at once."""
        with pytest.raises(
            UnknownNameError, match=r"unknown serializer 'jsn'.*bytes.*json.*\+zstd"
        ):
            Registry().serializer("jsn")

    @pytest.mark.parametrize("scheme", ["minio", "fsspec+gs", "obstore+s3"])
    def test_a_missing_extra_is_named(self, tmp_path: Path, scheme: str) -> None:
        """A scheme that an extra would bring says which, registered or not."""
        extra = scheme.partition("+")[0]
        ours = package(tmp_path, "ebooklet", f"[{REMOTE_STORES}]\n{extra} = no_such_library:X\n")
        for registry in (Registry(list), Registry(lambda: ours.entry_points)):
            with pytest.raises(UnknownNameError, match=rf"pip install 'ebooklet\[{extra}\]'"):
                registry.remote_store(scheme)

    def test_a_missing_extra_keeps_its_cause(self, tmp_path: Path) -> None:
        """The import that failed stays visible as the cause."""
        ours = package(tmp_path, "ebooklet", f"[{SERIALIZERS}]\nmsgpack = no_such_library:X\n")
        with pytest.raises(UnknownNameError) as caught:
            Registry(lambda: ours.entry_points).serializer("msgpack")
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)

    def test_an_uninstalled_copy_says_so(self) -> None:
        """Without this package's own metadata the error tells that it must be installed."""
        with pytest.raises(UnknownNameError, match="is not installed"):
            Registry(list).remote_store("s3")

    def test_two_claims_to_one_name_are_refused(self, site: Path) -> None:
        """Whoever asks for the name gets an error that names both; other names still work."""
        rival = package(site, "rival", f"[{SERIALIZERS}]\njson = rival_mod:X\n", rival_mod="X = 1")
        registry = Registry(points(rival))
        with pytest.raises(PluginError, match=r"'json' is claimed by ebooklet .* and rival 1\.0"):
            registry.serializer("json")
        assert registry.serializer("orjson").name == "orjson"

    def test_preferences_decide_between_claims(self, site: Path) -> None:
        """The first preferred package that claims the name has it; where none does, it is refused."""
        rival = package(
            site, "ri_val", f"[{SERIALIZERS}]\njson = rival_of:J\n", rival_of=GOOD + RIVAL
        )
        at_home = Registry(points(rival), prefer=["absent", "ebooklet", "ri-val"])
        assert type(at_home.serializer("json")).__module__ == "ebooklet.serializers.json"
        abroad = Registry(points(rival), prefer=["Ri.Val", "ebooklet"])
        under_guard = abroad.serializer("json")
        assert isinstance(under_guard, GuardedSerializer)
        assert type(under_guard.source).__module__ == "rival_of"
        with pytest.raises(PluginError, match="EBOOKLET_PREFER=ebooklet in the environment"):
            Registry(points(rival), prefer=["absent"]).serializer("json")

    @pytest.mark.parametrize(
        ("group", "call"),
        [
            (REMOTE_STORES, lambda registry: registry.remote_store("odd")("odd://a")),
            (LOCAL_STORES, lambda registry: registry.local_store("odd")(None, mode="read")),
            (LOCK_SERVICES, lambda registry: registry.lock_service("odd")(None, None)),
            (SERIALIZERS, lambda registry: registry.serializer("json+odd")),
        ],
        ids=["remote store", "local store", "lock service", "wrapper"],
    )
    def test_what_goes_wrong_in_a_plugins_function_is_named(
        self, site: Path, group: str, call: Callable[[Registry], object]
    ) -> None:
        """Its own exception becomes the cause of one that names the package; others pass unchanged.

        Mutation: `except BaseException` in `guarded` hides the SystemExit.
        """
        module = f"odd_{group.rpartition('.')[2]}"
        name = "+odd" if group == SERIALIZERS else "odd"
        odd = package(site, "odd-package", f"[{group}]\n{name} = {module}:X\n", **{module: ODD})
        registry = Registry(points(odd))
        raised: list[BaseException] = importlib.import_module(module).RAISED
        raised[:] = [RuntimeError("no such table")]
        with pytest.raises(
            PluginError, match=r"'odd-package' failed .*\(RuntimeError: no such table\); mend"
        ) as caught:
            call(registry)
        assert caught.value.__cause__ is raised[0]
        assert caught.value.key == name
        for passes in (AccessDenied("not you"), KeyboardInterrupt(), SystemExit(3)):
            raised[:] = [passes]
            with pytest.raises(type(passes)) as let_through:
                call(registry)
            assert let_through.value is passes
        raised.clear()
        with pytest.raises(PluginError, match=r"of the package 'odd-package' .*not a"):
            call(registry)

    @pytest.mark.parametrize(
        "source",
        [
            "raise RuntimeError('boom')",
            "import no_such_module",
            "def",
            "Y = 1",
            "raise SystemError",
        ],
    )
    def test_a_broken_plugin_is_named_with_its_cause(self, site: Path, source: str) -> None:
        """A plugin that cannot be imported raises only for those who ask for it."""
        module = f"broken_{abs(hash(source))}"
        bad = package(
            site, "bad-package", f"[{SERIALIZERS}]\nbad = {module}:X\n", **{module: source}
        )
        registry = Registry(points(bad))
        with pytest.raises(PluginError, match=r"'bad' of the package 'bad-package'") as caught:
            registry.serializer("bad")
        assert caught.value.__cause__ is not None
        assert registry.serializer("json").name == "json"

    @pytest.mark.parametrize(
        ("group", "source"),
        [(SERIALIZERS, "X = 1"), (SERIALIZERS, GOOD + "X = GOOD"), (REMOTE_STORES, "X = 1")],
        ids=["no serializer", "another name", "not callable"],
    )
    def test_a_plugin_that_does_not_fit_is_refused(
        self, site: Path, group: str, source: str, request: pytest.FixtureRequest
    ) -> None:
        """What a package registered is checked before it is used."""
        module = f"unfit_{abs(hash(request.node.name))}"
        bad = package(site, "bad-package", f"[{group}]\nunfit = {module}:X\n", **{module: source})
        registry = Registry(points(bad))
        with pytest.raises(PluginError, match="'unfit'"):
            registry.serializer("unfit") if group == SERIALIZERS else registry.remote_store("unfit")
