"""Other settings in the middle of an epoch: each reading is still counted once, at each level that is kept (R1, R12)."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headwater_edge import snapshot
from headwater_edge.events import Settings
from headwater_edge.rules import LimitRule
from headwater_edge.settings import StepSettings
from headwater_shared.parts import level_of
from tests.edge.feed import DAY, Message, S, hopping, session, step_settings_of
from tests.edge.run import Run

TEMP = "s1/d1/temp"
LEVELS = (("10s", "1m", "10m", "1h"), ("5s", "1m"), ("20s", "1m", "2m"))


def _settings(settings: StepSettings) -> Settings:
    return Settings(msgspec.json.encode(settings).decode())


def _message(at: float, value: float = 1.0) -> Message:
    return Message(((TEMP, DAY + round(at * S), value),))


def _run(settings: StepSettings | None = None) -> Run:
    made = Run(settings or step_settings_of())
    made.start()
    return made


def _counts(agent: Run) -> Counter[str]:
    found: Counter[str] = Counter()
    for (_, level, _), window in agent.merged.windows().items():
        found[level] += window.count
    return found


def test_r12_readings_of_the_tick_that_reloads_count_once() -> None:
    """Those whose window is over in the very same tick, and those that come after it for a window that the reload closed."""
    agent = _run()
    agent.tick(_message(1))
    agent.tick(_message(2), _message(90), events=(_settings(step_settings_of(lateness="3s")),))
    agent.tick(_message(3), _message(91))
    agent.flush()
    agent.check()


def test_r12_settings_that_move_no_window_close_none() -> None:
    """Another rule, another horizon: the open panes stay open, and their part stays one."""
    agent = _run()
    opened = agent.tick(_message(1)).tick
    hot = LimitRule("hot", "*/temp", 1.0, 80.0, 70.0, "warning", "too hot")
    others = replace(step_settings_of(horizon="1h", idle="20s"), rules=[hot])
    assert agent.tick(events=(_settings(others),)).frames == []
    assert agent.tick(_message(2, 95.0)).anomalies
    agent.flush()
    assert {identity[4] for identity in agent.merged.parts} == {opened}
    agent.check()


def test_r12_sessions_go_on_through_a_reload() -> None:
    """A session that is open when windows move is one session in the end."""
    agent = _run(step_settings_of(session("60s")))
    agent.tick(_message(1), _message(20))
    agent.settings = step_settings_of(session("60s"), lateness="4s")
    agent.tick(events=(_settings(agent.settings),))
    agent.tick(_message(50), _message(300))
    agent.flush()
    agent.check(sessions_too=True)


KINDS = st.sampled_from(
    [step_settings_of(levels=levels) for levels in LEVELS]
    + [step_settings_of(lateness="5s"), step_settings_of(held="10s"), step_settings_of(hopping("1m", "20s"))]
)
TICKS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 240), st.integers(0, 3)), max_size=6),
        st.one_of(st.none(), KINDS),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@given(TICKS)
def test_r12_any_reloads_between_any_readings_count_each_once(
    ticks: list[tuple[list[tuple[int, int]], StepSettings | None, bool]],
) -> None:
    """The minutes, which all of these settings keep, hold every reading once; bases hold each once in all; and a start from a
    snapshot and the journal comes to the same state, to the last bit.
    """
    agent = _run()
    for readings, others, picture in ticks:
        events = (_settings(others),) if others is not None else ()
        agent.tick(*[_message(at, float(value)) for at, value in readings], events=events)
        if picture:
            agent.picture()
    agent.flush()
    wanted = len(agent.account.counted)
    found = _counts(agent)
    tumbling = {level for level in found if level_of(level).at_once == 1}
    assert found["1m"] == wanted
    assert sum(found[level] for level in tumbling & {"5s", "10s", "20s"}) == wanted
    for one in [None, *agent.pictures]:
        assert snapshot.fingerprint(agent.restored(one)) == snapshot.fingerprint(agent.state)
