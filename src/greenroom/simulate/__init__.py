"""What would a strategy make of my members and my load? A simulation, seeded, without real time.

What decides in a real pool decides here: the life of its requests and the parts of its supervisor;
only the members and the passing of time are made up. `python -m greenroom simulate` is its face;
`simulate(scenario, strategy)` is what it calls.
"""

from greenroom.simulate.run import simulate
from greenroom.simulate.scenario import Load, MemberSpec, Scenario, Tenant
from greenroom.simulate.scenario_file import ScenarioError, scenarios_of
from greenroom.simulate.tally import Result, TenantResult

__all__ = [
    "Load",
    "MemberSpec",
    "Result",
    "Scenario",
    "ScenarioError",
    "Tenant",
    "TenantResult",
    "scenarios_of",
    "simulate",
]
