"""The chaos suite: a seeded fault plan drives real pools, and a model says what must come of it.

    make chaos                                        200,000 requests
    make chaos ARGS='--seed 7 --requests 5000'        what a failure tells you to run

The floors, from the pure ones up:
    moves, weather, plan  what agents do, what is sent and what goes wrong: a function of the seed
    entry, model, books   what was seen of a request and of a pool, and whether it may have been so
    chunks, streamed      the same of a stream
    footprint             threads, descriptors, memory and handlers, before and after
    players, streamers    the agents, which do as they are told; `stage` is what they share
    drills, closers       one thing at a time among members that are well; clients that close badly
    signals, machine      handlers that raise in askers; threads and descriptors that are refused
    company, faults       the members, `innerpools` among them, and what is done to them
    traffic, streaming    the ways of sending a request; `ways` has all of them
    blocks                attempts in the caller's own task or thread, which does what agents do
    ledger, watch         what the pool answers, logs and leaves behind
    calm, act, driver     pools, rounds of traffic and faults, rest, and the checks
    traced                spans of OpenTelemetry, where the run is asked for them
    report                what was injected, what was seen, the verdict

Within a seed the plan is always the same; how threads interleave is not. So no sequence is
compared, only what holds for every interleaving.

To add a kind of traffic: a `Way` in `steps`, a class beside the others in `ways.WAYS`, its moves in
`moves`, and what must hold of it in `model.judge`. A setting of pools is drawn in `plan`, and what
it allows is one of the model's `Terms`.

Every fourth pool has pools among its members. What happens inside is told by the outer pool's
answers alone, so there no count of calls is exact.
"""
