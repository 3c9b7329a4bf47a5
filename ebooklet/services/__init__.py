"""Use cases: port calls in order. What to do is decided in `core`; here it is done.

Where to look, by what is done or met:

    open               request refusals opening claiming localhalf afresh attaching founding settings
    another mode       reopening staying switching
    another place      misplacing lastplace mirrors unreachable
    close              closing departing forks
    what is shared     working_copy guards snapshot
    read a key         reading readahead fetched loading streaming iterating
    read the remote    entries nodes fetching parts explaining
    write a key        writing metadata pending journal remembered evictions
    others' edits      reconcile
    changes            changes
    push               push readiness attempts draft committing upload dictionaries
    pull               pull rebasing confirming
    head               heads headcopies lostheads fencing backoff
    lock               locking lockchoice turns
    conflicts          conflicts resolving settling policy
    versions           versions commits history log retained ancestry differences fingerprints
    branches, tags     branches tags trash amending naming refs
    merge              merging meeting staging
    commit older, anew reverting rewriting rotation
    delete             removal deleting
    copy               transfer ranged
    clean and check    maintenance fsck
    many processes     workers
    whole remotes      place inventory catalog clashes
    hooks              hooking
    from EBooklet 0.11 migration packing
"""
