"""The chaos suite: a seeded fault plan drives real pools, and a model says what must come of it.

    make chaos                                        200,000 requests
    make chaos ARGS='--seed 7 --requests 5000'        what a failure tells you to run

The floors, from the pure ones up:
    moves, weather, plan  what agents do, what is sent and what goes wrong: a function of the seed
    entry, model, books   what was seen of a request and of a pool, and whether it may have been so
    footprint             threads, descriptors, memory and handlers, before and after
    players, stage        the agents, which do as they are told, and what they share
    company, faults       the members, and what is done to them
    traffic               the ways of sending a request
    ledger, watch         what the pool answers, logs and leaves behind
    calm, act, driver     pools, rounds of traffic and faults, rest, and the checks
    report                what was injected, what was seen, the verdict

Within a seed the plan is always the same; how threads interleave is not. So no sequence is
compared, only what holds for every interleaving.

To add a kind of traffic (streams): a `Way` in `plan`, a class beside the others in `traffic.WAYS`,
its moves in `moves`, and what must hold of it in `model.judge`. To add hedging: its setting in
`plan.SETTINGS`; then `model` must allow two calls of a request side by side, one of them lost.
"""
