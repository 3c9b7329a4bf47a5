"""The code in README.md and docs/ runs; CONTRIBUTING.md says what it may count on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ebooklet import errors
from ebooklet.connection import RemoteAddress
from ebooklet.plugins.extras import EXTRAS
from ebooklet.plugins.groups import REMOTE_STORES
from ebooklet.plugins.registry import Registry
from ebooklet.testing.servers import S3Server

REPOSITORY = Path(__file__).parents[1]
ERRORS = REPOSITORY / "docs" / "errors.md"
DECISIONS = REPOSITORY / "docs" / "decisions"
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)[^`]*$")
_SKIP = re.compile(r"<!--\s*docs-test:\s*skip\s*\((?P<reason>[^)]+)\)\s*-->")


@dataclass(frozen=True)
class Block:
    """One fenced block of Python."""

    path: Path
    line: int  # of its first line of code, from 1
    code: str
    skip: str | None = None  # why it is not run


def python_blocks(path: Path) -> Iterator[Block]:
    """The ```python blocks of a Markdown file, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    skip: str | None = None
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            if marker := _SKIP.search(lines[number]):
                skip = marker["reason"]
            elif lines[number].strip():
                skip = None
            number += 1
            continue
        start = number = number + 1
        while number < len(lines) and lines[number].strip() != fence["ticks"]:
            number += 1
        indent = len(fence["indent"])
        if fence["language"] == "python":
            body = "\n".join(line[indent:] for line in lines[start:number])
            yield Block(path, start + 1, body, skip)
        skip = None
        number += 1


DOCUMENTS = [
    pytest.param(path, blocks, id=path.relative_to(REPOSITORY).as_posix())
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if (blocks := list(python_blocks(path)))
]


@pytest.mark.parametrize(("path", "blocks"), DOCUMENTS)
def test_the_code_in_the_documents_runs(
    path: Path,
    blocks: list[Block],
    moto: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every block of a document runs after those before it, as its reader would type them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.access_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = moto.new_bucket()
    moto.publish(bucket)
    namespace: dict[str, object] = {
        "__name__": "__main__",
        "endpoint_url": moto.endpoint_url,
        "access_key_id": moto.access_key_id,
        "access_key": moto.access_key,
        "bucket": bucket,
        "public_url": f"{moto.endpoint_url}/{bucket}",
    }
    ran = 0
    for block in blocks:
        if block.skip is None:
            # Padded, so that a traceback points at the line in the document.
            code = compile("\n" * (block.line - 1) + block.code, str(block.path), "exec")
            exec(code, namespace)
            ran += 1
    assert ran + sum(block.skip is not None for block in blocks) == len(blocks)


def test_blocks_are_found(tmp_path: Path) -> None:
    """Python fences are taken with their place; others, and skipped ones, are told apart."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\n"
        "```text\nnot code\n```\n"
        "- item\n\n  ```python\n  b = 2\n\n  c = 3\n  ```\n"
        "<!-- docs-test: skip (needs a cluster) -->\n\n```python\nd()\n```\n"
        "````text\n```python\nquoted\n```\n````\n"
        "```python title='x'\ne = 5\n```\n"
    )
    found = [(block.line, block.code, block.skip) for block in python_blocks(page)]
    assert found == [
        (2, "a = 1", None),
        (10, "b = 2\n\nc = 3", None),
        (17, "d()", "needs a cluster"),
        (25, "e = 5", None),
    ]


def test_every_error_is_explained() -> None:
    """docs/errors.md names every error of the tree, and the built-in class it also is."""
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*)$", ERRORS.read_text(encoding="utf-8"), re.MULTILINE)
    )
    classes = {
        name: error
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.EBookletError)
    }
    assert set(rows) == set(classes) - {"EBookletError", "Error"}
    builtin = {
        name: {base.__name__ for base in error.__bases__ if base.__module__ == "builtins"}
        for name, error in classes.items()
    }
    wrong = [
        name
        for name, row in rows.items()
        if not all(f"`{base}`" in row.partition("|")[0] for base in builtin[name])
    ]
    assert wrong == []


def test_every_link_to_a_file_leads_somewhere() -> None:
    """Relative links in the documents point at files that exist."""
    broken = [
        f"{page.relative_to(REPOSITORY)}: {target}"
        for page in (
            *REPOSITORY.glob("*.md"),
            *(REPOSITORY / "docs").rglob("*.md"),
            *(REPOSITORY / "changes").glob("*.md"),
        )
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
        and not target.startswith("mailto:")
        and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_decision_is_listed_under_its_number() -> None:
    """The list of decisions names each page once, in order, and no two share a number."""
    listing = (DECISIONS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^- \[(\d{4})\]\((\S+)\): \S", listing, re.MULTILINE)
    pages = sorted(page.name for page in DECISIONS.glob("*.md") if page.name != "README.md")
    assert [name for _, name in rows] == pages
    assert [number for number, _ in rows] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    assert all(name.startswith(f"{number}-") for number, name in rows)


def test_every_scheme_and_extra_is_explained() -> None:
    """The page on remotes names the scheme of each remote store, and what installs it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (REPOSITORY / "docs" / "remotes.md").read_text(encoding="utf-8")
    stores = project["entry-points"]["ebooklet.remote_stores"]
    extras = {EXTRAS[REMOTE_STORES, name] for name in stores if (REMOTE_STORES, name) in EXTRAS}
    assert [name for name in stores if not re.search(rf"`{name}(\+\w+)?://", page)] == []
    assert [extra for extra in sorted(extras) if f"ebooklet[{extra}]" not in page] == []


def test_what_each_remote_can_do_is_true(tmp_path: Path) -> None:
    """The table of abilities in docs/remotes.md is that of each store's capabilities."""
    url = {
        "boto3": "s3://bucket/key",
        "minio": "minio://127.0.0.1:9/bucket/key",
        "obstore": "obstore+s3://bucket/key",
        "fsspec` with s3": "fsspec+s3://bucket/key",
        "fsspec` with others": f"fsspec+file://{tmp_path}/db",
        "http": "http://127.0.0.1:9/key",
        "filesystem": f"file://{tmp_path}/db",
        "memory": "memory://table",
    }
    said = dict(
        re.findall(
            r"^\| `([\w` ]+?)`? \| ((?:yes|no) \|.*)$",
            (REPOSITORY / "docs" / "remotes.md").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    assert set(said) == set(url)
    for name, text in url.items():
        address = RemoteAddress.parse(text)
        store, _ = Registry().remote_store(address.scheme)(address)
        can = store.capabilities
        limit = "" if not can.writable else "no limit"
        if 0 < can.max_put_bytes < 1 << 40:
            limit = f"{can.max_put_bytes >> 20} MiB"
        facts = (can.conditional_put, can.server_side_copy, can.ranges, can.writable)
        cells = [cell.strip() for cell in said[name].split("|")]
        assert cells[:5] == [*("yes" if fact else "no" for fact in facts), limit], name
        store.close()
