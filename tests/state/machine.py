"""Random lives of one database: two writers, a reader, and whatever may go wrong with them.

What must stand is told by `dictmodel`. Whether a request without an answer has landed, and which
commit a copy stands on after a failure, nobody can foresee: that much is observed, and all else
follows from it. A failing life is printed as the calls of its rules, to be copied into a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import booklet
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
)

from ebooklet.core.head import Head
from ebooklet.core.index.lookup import scan
from ebooklet.core.index.node import InnerNode
from ebooklet.core.names import sid_text
from ebooklet.database import EBooklet
from ebooklet.errors import (
    ConflictError,
    EBookletError,
    LockTimeout,
    PendingChangesError,
    ReplaceConflict,
    SnapshotExpired,
    UnknownVersionError,
)
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.changes import Changes
from ebooklet.testing.faulty import StoreFault
from tests.state.dictmodel import (
    Candidate,
    Copy,
    Entry,
    Policy,
    State,
    candidates,
    merged,
)
from tests.state.stage import NO_ANSWER, Stage, Trouble

NAMES: Final = st.sampled_from(["a", "b"])
KEYS: Final = st.sampled_from([f"k{n}" for n in range(7)] + ["", "ü/k1"])
VALUES: Final = st.sampled_from(["new", "new", "same", "large"])
POLICIES: Final = st.sampled_from(["error", "ours", "theirs"])
SIDES: Final = st.sampled_from(["side", "other"])
TAGS: Final = st.sampled_from(["v1", "v2"])

TROUBLES: Final = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        Trouble,
        fault=st.sampled_from([StoreFault.LOSE_ANSWER, StoreFault.REFUSE]),
        op=st.sampled_from(["put", "put", "put", "get", "get", "list", "delete"]),
        part=st.sampled_from(["db", "db", "db", "db.d/", "", "db.lock"]),
        skip=st.sampled_from([0, 0, 0, 1, 2]),
        times=st.sampled_from([1, None, None]),
    ),
    st.just(Trouble(StoreFault.HOLD, "put", "db", 0, None)),
    st.just(Trouble(StoreFault.LOSE_ANSWER, "put", "db", 0, None, silent=True)),
)


def check_segments(db: EBooklet[Any], store: RemoteStore) -> None:
    """See that the segment table of a commit says exactly what its tree refers to."""
    nodes, base = db._copy.nodes, db._copy.base
    assert base is not None
    live: Counter[bytes] = Counter()
    level = [base.root] if base.root else []
    while level:
        live.update({ref.block.sid: 0 for ref in level})
        for ref in level:
            live[ref.block.sid] += ref.block.length
        found = nodes.fetch(level)
        level = [c for n in found.values() if isinstance(n, InnerNode) for c in n.children()]
    value_bytes = 0
    for page in nodes.scan(scan(base.root)) if base.root is not None else ():
        for entry in page:
            value_bytes += entry.length
            if entry.place:
                live[entry.place.sid] += entry.place.length
    assert {row.sid: row.live for row in base.commit.segs} == dict(live)
    assert base.commit.value_bytes == value_bytes
    sizes = {meta.key.rpartition("/")[2]: meta.size for meta in store.list("db.d/")}
    assert {row.sid: sizes[sid_text(row.sid)] for row in base.commit.segs} == {
        row.sid: row.length for row in base.commit.segs
    }


class Life(Stage):
    """What may happen, and what must be so after each step."""

    def comes(self, name: str) -> None:
        """Have a writer open its copy again, where it has not got it open."""
        if name not in self.open:
            self.come_back(name, False, False, None, None)

    # Rules: one key, one copy

    def new_value(self, kind: str) -> Any:
        self.counter += 1
        return {"same": "same", "large": f"{self.counter:07}" * 50}.get(kind, self.counter)

    @rule(name=NAMES, key=KEYS, kind=VALUES)
    def set(self, name: str, key: str, kind: str) -> None:
        value = self.new_value(kind)
        self.comes(name)
        self.open[name][key] = value
        moment = self.open[name].get_timestamp(key)
        self.copies[name].write(key, Entry(value, moment))

    @rule(name=NAMES, keys=st.lists(KEYS, min_size=2, max_size=5, unique=True))
    def update(self, name: str, keys: list[str]) -> None:
        self.comes(name)
        self.open[name].update({key: self.new_value("new") for key in keys})
        for key in keys:
            entry = self.open[name].get_timestamp(key, include_value=True)
            self.copies[name].write(key, Entry(entry[1], entry[0]))

    @rule(name=NAMES, key=KEYS)
    def delete(self, name: str, key: str) -> None:
        self.comes(name)
        if key not in self.copies[name].view():
            with pytest.raises(KeyError):
                del self.open[name][key]
        else:
            del self.open[name][key]
            self.copies[name].write(key, None, durable=True)

    @rule(name=NAMES, key=KEYS)
    def pop(self, name: str, key: str) -> None:
        self.comes(name)
        found = self.copies[name].view().get(key)
        assert self.open[name].pop(key, "none") == (found.value if found else "none")
        if found:
            self.copies[name].write(key, None, durable=True)

    @rule(name=NAMES, key=KEYS)
    def restamp(self, name: str, key: str) -> None:
        self.comes(name)
        found = self.copies[name].view().get(key)
        if found is not None:
            moment = self.clock.now_us()
            self.open[name].set_timestamp(key, moment)
            self.copies[name].write(key, Entry(found.value, moment))

    @rule(name=NAMES)
    def clear(self, name: str) -> None:
        self.comes(name)
        self.open[name].clear()
        self.copies[name].clear()
        if not self.copies[name].committed:  # a write whose end nobody knows counts as well
            self.copies[name].replaces = self.open[name]._copy.pending.replace

    @rule(name=NAMES, keys=st.one_of(st.none(), st.lists(KEYS, max_size=3)))
    def discard(self, name: str, keys: list[str] | None) -> None:
        self.comes(name)
        self.open[name].discard(keys)
        self.copies[name].discard(keys)

    @rule(name=NAMES)
    def set_metadata(self, name: str) -> None:
        self.comes(name)
        self.counter += 1
        self.seen.append({"n": self.counter})
        self.open[name].set_metadata(self.seen[-1])
        self.copies[name].metadata, self.copies[name].has_metadata = self.seen[-1], True

    @rule(name=NAMES)
    def sync(self, name: str) -> None:
        self.comes(name)
        self.open[name].sync()
        self.copies[name].synced()

    @rule(name=NAMES, everything=st.booleans())
    def prune(self, name: str, everything: bool) -> None:
        self.comes(name)
        self.open[name].prune(2**55 if everything else None)
        self.copies[name].synced()

    # Rules: with the remote

    def expected(self, name: str) -> Copy:
        """A writer's copy as it will be once it has met the head."""
        copy = self.copies[name]
        return copy.after(self.history.tip(copy.branch))

    @rule(name=NAMES, policy=POLICIES, force=st.booleans(), trouble=TROUBLES)
    def push(self, name: str, policy: Policy, force: bool, trouble: Trouble | None) -> None:
        self.comes(name)
        if name in self.lost:
            return
        copy = self.copies[name]
        tip = self.history.tip(copy.branch)
        met = self.expected(name)
        sure = copy.base in self.history.retained()
        content, conflicts = met.pushed(policy), met.conflicts()
        metadata = copy.has_metadata
        happens = self.committed(copy.branch, content, (tip.id,))

        def landed(head: Head) -> None:
            if metadata:
                self.history.metadata = copy.metadata
            happens(head)

        try:
            result = self.act(
                name,
                trouble,
                lambda db: db.push(conflict=policy, force_push=force),
                landed,
            )
        except ConflictError as conflict:
            refused = list(conflict.keys)
            self.stands(name)
            self.may_have_given_up(name, policy)
            assert policy == "error"
            assert refused == self.copies[name].conflicts() != []
            assert conflicts or not sure
            return
        except ReplaceConflict:
            self.stands(name)
            assert met.replaces
            assert not force
            return
        if result is None:
            self.may_have_given_up(name, policy)
            return
        assert not result.failures
        if self.holder == name and copy.base == self.copies[name].base != tip.id:
            met, tip = copy, self.history.commits[copy.base]  # which looks at no head unasked
            content, conflicts = met.pushed(policy), met.conflicts()
        assert result.updated == bool(force or metadata or met.replaces or content != tip.content)
        assert policy != "error" or not conflicts
        now = self.copies[name]
        assert now.base == result.commit
        assert not result.updated or result.commit == self.history.branches[copy.branch]
        now.pending.clear()
        now.synced()
        now.unanswered.clear()
        now.replaces = now.has_metadata = False

    def may_have_given_up(self, name: str, policy: Policy) -> None:
        """Observe which changes a push has dropped before it failed."""
        copy = self.copies[name]
        left = {k: change for k, change in copy.pending.items() if k not in copy.given_up(policy)}
        self.choose(self.open[name], copy, [dict(copy.pending), left])

    @rule(
        name=NAMES,
        edits=st.lists(st.tuples(KEYS, VALUES | st.just("gone")), min_size=1, max_size=4),
        policy=POLICIES,
        trouble=TROUBLES,
    )
    def edit_and_push(
        self, name: str, edits: list[tuple[str, str]], policy: Policy, trouble: Trouble | None
    ) -> None:
        for key, kind in edits:
            if kind == "gone":
                self.pop(name, key)
            else:
                self.set(name, key, kind)
        self.push(name, policy, False, trouble)

    @rule(name=NAMES, trouble=TROUBLES)
    def pull(self, name: str, trouble: Trouble | None) -> None:
        self.comes(name)
        result = self.act(name, trouble, lambda db: db.pull())
        copy = self.copies[name]
        if result is not None and not copy.replaces:
            assert copy.base == self.history.branches[copy.branch]
            assert list(result.conflicts) == copy.conflicts()

    @rule(trouble=TROUBLES)
    def reader_pulls(self, trouble: Trouble | None) -> None:
        assert self.reader is not None
        try:
            with self.troubled("r", trouble) as rules:
                self.reader.pull()
        except NO_ANSWER:
            assert any(one.struck for one in rules)
        else:
            assert self.reader_stands() == self.history.branches["main"]

    @rule()
    def reader_comes_anew(self) -> None:
        assert self.reader is not None
        self.reader.close()
        self.reader = self.opened("r", "r")
        assert self.reader_stands() == self.history.branches["main"]

    @rule()
    def what_is_under_way_arrives(self) -> None:
        """A head write of long ago: it lands if the head has not moved since."""
        before = self.head()
        self.store.release_held()
        held, self.held = self.held, None
        if held is None:
            return
        mine = set(self.history.commits)
        self.arrived(before, held.happens)
        self.copies[held.name].unanswered += self.history.commits.keys() - mine

    # Rules: opening and closing

    def closed(self, name: str) -> None:
        db = self.open.pop(name)
        db.close()
        self.copies[name].synced()
        self.lost.discard(name)
        if self.holder == name:
            self.holder = None

    @rule(name=NAMES)
    def close(self, name: str) -> None:
        self.comes(name)
        self.closed(name)

    @rule(name=NAMES)
    def kill(self, name: str) -> None:
        """The process ends, with what its files hold at this moment."""
        self.comes(name)
        self.killed(name)
        self.lost.discard(name)
        if self.holder == name:
            self.holder, self.dead_lock = None, True

    @rule(
        name=NAMES,
        exclusive=st.booleans(),
        force=st.booleans(),
        branch=st.sampled_from([None, None, "main", "side", "other"]),
        trouble=TROUBLES,
    )
    def come_back(
        self, name: str, exclusive: bool, force: bool, branch: str | None, trouble: Trouble | None
    ) -> None:
        if name in self.open or (branch is not None and branch not in self.history.branches):
            return
        copy = self.copies[name]
        if copy.branch not in self.history.branches:
            branch = branch or "main"
        taken = exclusive and self.holder is not None
        options: dict[str, Any] = {"exclusive": exclusive, "branch": branch}
        options["lock_timeout"] = 300 if self.dead_lock else 5
        if exclusive:
            options["force_lock"] = force
        try:
            with self.troubled(name, trouble) as rules:
                db = self.opened(name, "w", **options)
        except NO_ANSWER:
            assert any(one.struck for one in rules)
            self.dead_lock |= exclusive
            return
        except LockTimeout:
            assert (taken and not force) or self.dead_lock or trouble
            return
        except (ConflictError, ReplaceConflict):
            assert branch not in (None, copy.branch)
            assert copy.pending or copy.replaces
            self.dead_lock |= exclusive and trouble is not None
            return
        assert not taken or force or self.dead_lock
        if exclusive:
            if self.holder is not None:
                self.lost.add(self.holder)
            self.holder, self.dead_lock = name, False
        self.open[name] = db
        self.came_back(name, branch)

    def came_back(self, name: str, branch: str | None) -> None:
        """Find out what was lost with a process, and what an open made of the rest."""
        copy, db = self.copies[name], self.open[name]
        sure = copy.base in self.history.retained()
        base = db._copy.base
        assert base is not None
        now = self.history.commits[base.ref.id.hex()]
        assert copy.replaces or now.id == self.history.branches[branch or copy.branch]
        before = copy.committed
        options: list[Mapping[str, Candidate]] = []
        depth = max((len(states) for states in copy.earlier.values()), default=0)
        for n in range(depth + 1):
            kept = dict(copy.pending)
            for key, states in copy.earlier.items():
                if n > 0 and len(states) >= n:
                    kept.pop(key, None)
                    if (state := states[-n]) is not None:
                        kept[key] = state
            maybe = Copy(self.history, copy.base, copy.branch, kept, copy.replaces)
            maybe.unanswered = list(copy.unanswered)
            options.append(dict(maybe.after(now).pending) if not copy.replaces else kept)
            if not sure:
                options += candidates(maybe, now)
        moved = copy.after(now)
        moved.branch = branch or copy.branch
        if len(options) > 1:
            self.choose(db, moved, options)
        del before
        moved.synced()
        self.copies[name] = moved
        if moved.has_metadata and not db._copy.pending.metadata:
            moved.has_metadata = False  # equal, or lost before it was synced
            assert self.history.metadata == moved.metadata or moved.metadata not in self.seen[:1]

    @rule(name=NAMES, key=KEYS, deletes=st.booleans())
    def edit_with_plain_booklet(self, name: str, key: str, deletes: bool) -> None:
        """Between two sessions the file is anybody's."""
        self.comes(name)
        if name in self.lost or self.copies[name].replaces:
            return
        exclusive = self.holder == name
        self.closed(name)
        copy = self.copies[name]
        plain = booklet.open(str(self.path(name)), "w")
        state: State = None
        if deletes and key in plain:
            del plain[key]
            copy.write(key, None)
        elif not deletes:
            value = self.new_value("new")
            moment = self.clock.now_us()
            plain.set(key, value, moment)
            state = Entry(value, moment)
            copy.write(key, state)
        plain.close()
        copy.synced()
        self.open[name] = self.opened(name, exclusive=exclusive)
        self.holder = name if exclusive else self.holder
        self.came_back(name, None)

    # Rules: versions

    def name_commit(
        self,
        name: str,
        given: str,
        names: dict[str, str],
        trouble: Trouble | None,
        action: Callable[[EBooklet[Any]], object],
    ) -> None:
        """Have a writer give its base a tag's or a branch's name, which is refused if that is gone."""
        if name in self.lost:
            return
        commit = self.copies[name].base
        try:
            self.act(name, trouble, action, lambda _: names.__setitem__(given, commit))
        except SnapshotExpired:
            assert commit not in self.history.retained()

    @rule(name=NAMES, tag=TAGS, trouble=TROUBLES)
    def tag(self, name: str, tag: str, trouble: Trouble | None) -> None:
        self.comes(name)
        if tag not in self.history.tags:
            self.name_commit(name, tag, self.history.tags, trouble, lambda db: db.tag(tag))

    @rule(name=NAMES, tag=TAGS, trouble=TROUBLES)
    def delete_tag(self, name: str, tag: str, trouble: Trouble | None) -> None:
        self.comes(name)
        if tag in self.history.tags and name not in self.lost:
            self.act(
                name,
                trouble,
                lambda db: db.delete_tag(tag),
                lambda _: self.history.tags.__delitem__(tag),
            )

    @rule(name=NAMES, branch=SIDES, trouble=TROUBLES)
    def begin_branch(self, name: str, branch: str, trouble: Trouble | None) -> None:
        self.comes(name)
        names = self.history.branches
        if branch not in names:
            self.name_commit(name, branch, names, trouble, lambda db: db.branch(branch))

    @rule(
        name=NAMES,
        policy=POLICIES,
        branch=st.sampled_from(["main", "side", "other"]),
        trouble=TROUBLES,
    )
    def merge(self, name: str, policy: Policy, branch: str, trouble: Trouble | None) -> None:
        self.comes(name)
        if name in self.lost or branch not in self.history.branches:
            return
        here = self.expected(name)
        if branch == here.branch:
            return
        tip, other = self.history.tip(here.branch), self.history.tip(branch)
        parted = self.history.parted(tip.id, other.id)
        retained = self.history.retained()
        sure = parted is not None and all(
            each.id in retained
            for side in (tip.id, other.id)
            for each in self.history.line(side)
            if each.seq >= parted.seq
        )
        base = None if parted is None else parted.content
        content, conflicts = merged(base, tip.content, other.content, policy)

        def happens(head: Head) -> None:
            ref = head.branches[here.branch].commit.id.hex()
            if ref == other.id:
                assert not sure or parted == tip
                self.history.branches[here.branch] = ref
                return
            with self.look(ref) as db:
                found = self.read(db)
                parents = next(db.log()).parents
            if sure:
                assert found == content
                assert parents[0] == tip.id
            else:
                for key in found.keys() | content.keys():
                    assert found.get(key) in (tip.content.get(key), other.content.get(key))
            self.committed(here.branch, found, parents)(head)

        try:
            result = self.act(name, trouble, lambda db: db.merge(branch, conflict=policy), happens)
        except PendingChangesError:
            self.stands(name)
            copy = self.copies[name]
            assert copy.pending or copy.has_metadata or copy.replaces
            return
        except ConflictError as conflict:
            refused = list(conflict.keys)
            self.stands(name)
            assert policy == "error"
            assert refused == conflicts or not sure
            return
        if result is not None and sure:
            assert result.updated == (parted != other)
            assert result.fast_forward == (parted == tip != other)
            assert not (conflicts and policy == "error" and result.updated and parted != tip)

    @rule(name=NAMES, back=st.integers(1, 4), trouble=TROUBLES)
    def revert(self, name: str, back: int, trouble: Trouble | None) -> None:
        self.comes(name)
        if name in self.lost:
            return
        copy = self.copies[name]
        line = self.history.line(copy.base)
        target = line[min(back, len(line) - 1)]
        tip = self.history.tip(copy.branch)
        happens = self.committed(copy.branch, target.content, (tip.id,))
        try:
            result = self.act(name, trouble, lambda db: db.revert(target.id), happens)
        except PendingChangesError:
            self.stands(name)
            copy = self.copies[name]
            assert copy.pending or copy.has_metadata or copy.replaces
        except ReplaceConflict:
            self.stands(name)
            assert copy.base != tip.id
        except (SnapshotExpired, UnknownVersionError):
            self.stands(name)
            assert target.id not in self.history.retained()
        else:
            if result is not None:
                if self.holder == name and copy.base == self.copies[name].base:
                    tip = self.history.commits[copy.base]  # it looks at no head unasked
                values = {key: entry.value for key, entry in target.content.items()}
                before = {key: entry.value for key, entry in tip.content.items()}
                assert result.updated == (values != before)

    # Rules: maintenance

    def is_barred(self, name: str) -> bool:
        """Whether another has the lock that maintenance needs."""
        return self.holder != name and (self.holder is not None or self.dead_lock)

    @rule(name=NAMES, days=st.sampled_from([0, 0, 7]), trouble=TROUBLES)
    def gc(self, name: str, days: int, trouble: Trouble | None) -> None:
        self.comes(name)
        if name in self.lost or self.is_barred(name) or self.held:
            return
        self.dead_lock |= trouble is not None and self.holder != name
        report = self.act(name, trouble, lambda db: db.gc(grace=timedelta(days=days)))
        if report is None or report.deleted or report.dropped:
            self.is_sound()

    @rule(name=NAMES, trouble=TROUBLES)
    def compact(self, name: str, trouble: Trouble | None) -> None:
        self.comes(name)
        if name in self.lost or self.is_barred(name):
            return
        self.dead_lock |= trouble is not None and self.holder != name
        branch = self.copies[name].branch
        tip = self.history.tip(branch)
        try:
            self.act(
                name,
                trouble,
                lambda db: db.compact(),
                self.committed(branch, tip.content, (tip.id,)),
            )
        except ReplaceConflict:
            assert self.copies[name].replaces
        if self.history.branches[branch] != tip.id:
            self.is_sound()

    @rule(days=st.sampled_from([1, 8, 40]))
    def time_passes(self, days: int) -> None:
        """Long enough for whatever waits; who holds a lock gives it back first."""
        if self.holder is not None:
            self.closed(self.holder)
        self.clock.advance(days * 86400)

    @rule()
    def is_sound(self) -> None:
        """Nothing that is needed is missing, and every commit that is to be kept reads as it was."""
        with self.look() as db:
            report = db.fsck(check_objects=True)
            assert report.ok, report
            check_segments(db, self.store.inner)
            assert self.read(db) == self.history.tip("main").content
        for commit in self.history.retained():
            with self.look(commit) as db:
                assert self.read(db) == self.history.commits[commit].content

    @rule(data=st.data())
    def open_a_version(self, data: st.DataObject) -> None:
        """Any commit there ever was reads as it was, or has expired."""
        commit = data.draw(
            st.sampled_from(sorted(self.history.commits.values(), key=lambda c: c.seq))
        )
        try:
            with self.look(commit.id) as db:
                assert self.read(db) == commit.content
        except EBookletError:
            assert commit.id not in self.history.retained()

    # After each step

    @invariant()
    def writers_say_what_the_model_says(self) -> None:
        for name, db in self.open.items():
            copy = self.copies[name]
            try:
                seen = self.read(db)
            except SnapshotExpired:
                assert copy.base not in self.history.retained()
                if not copy.replaces and name not in self.lost:
                    self.pull(name, None)
                continue
            view = copy.view()
            assert seen == view
            assert len(db) == len(view)
            assert list(db) == sorted(view)
            assert [key for key in view if key not in db] == []
            assert dict(db.items("k")) == {k: e.value for k, e in view.items() if k[:1] == "k"}
            try:
                told = {c["key"]: (c["kind"], c["conflict"]) for c in Changes(db._copy)}
            except SnapshotExpired:
                assert copy.base not in self.history.retained()
                continue
            assert told == copy.changes()
            if copy.has_metadata:
                assert db.get_metadata() == copy.metadata
            else:
                assert db.get_metadata() in self.seen

    @invariant()
    def the_reader_sees_some_commit(self) -> None:
        if self.reader is None:
            return
        commit = self.history.commits[self.reader_stands()]
        try:
            assert self.read(self.reader) == commit.content
            assert len(self.reader) == len(commit.content)
        except SnapshotExpired:
            assert commit.id not in self.history.retained()
            self.reader.pull()
