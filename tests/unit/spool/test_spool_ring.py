import orjson

from turntrace.spool.ring import REMEMBER_SECONDS, Evicted, Held, Ring, turn_id


def held(turn: str, number: int, *, is_first: bool = False, size: int = 744) -> Held:
    payload = orjson.dumps({"turn": {"id": turn}, "n": number})
    return Held(1, payload.ljust(size), is_first)  # 1,000 bytes with what an entry costs


def drain(ring: Ring) -> list[Held]:
    found = []
    while (frame := ring.peek()) is not None:
        found.append(frame)
        ring.pop()
    return found


def test_frames_of_a_turn_leave_in_the_order_they_came() -> None:
    ring = Ring(100_000)
    frames = [held("a", 1, is_first=True), held("b", 1, is_first=True), held("a", 2), held("a", 3)]
    for frame in frames:
        assert ring.put(frame, 0.0) == Evicted(0, 0)
    assert drain(ring) == [frames[0], frames[2], frames[3], frames[1]]
    assert (len(ring), ring.size, ring.is_idle) == (0, 0, True)


def test_the_oldest_turn_goes_first_and_whole() -> None:
    ring = Ring(3_000)
    for frame in (held("a", 1, is_first=True), held("a", 2), held("b", 1, is_first=True)):
        ring.put(frame, 0.0)
    assert ring.put(held("c", 1, is_first=True), 0.0) == Evicted(1, 0)
    assert {turn_id(frame.payload) for frame in drain(ring)} == {"b", "c"}


def test_later_frames_of_a_turn_that_went_are_known_for_a_while() -> None:
    ring = Ring(1_000)
    ring.put(held("a", 1, is_first=True), 0.0)
    ring.put(held("b", 1, is_first=True), 1.0)
    assert ring.is_abandoned(held("a", 2).payload, 2.0)
    assert not ring.is_abandoned(held("b", 2).payload, 2.0)
    assert not ring.is_abandoned(held("a", 3).payload, REMEMBER_SECONDS + 2.0)


def test_turns_that_began_on_disk_go_last_and_are_not_dropped_turns() -> None:
    ring = Ring(2_000)
    ring.put(held("old", 9), 0.0)
    ring.put(held("a", 1, is_first=True), 0.0)
    assert ring.put(held("b", 1, is_first=True), 0.0) == Evicted(1, 0)
    assert [turn_id(frame.payload) for frame in drain(ring)] == ["old", "b"]
    ring.put(held("old", 9), 0.0)
    ring.put(held("old", 10), 0.0)
    assert ring.put(held("older", 11), 0.0) == Evicted(0, 2)


def test_a_frame_larger_than_the_whole_ring_is_evicted_itself() -> None:
    ring = Ring(1_000)
    assert ring.put(held("a", 1, is_first=True, size=5_000), 0.0) == Evicted(1, 0)
    assert len(ring) == 0


def test_payloads_without_a_turn_stand_for_themselves() -> None:
    ring = Ring(100_000)
    for payload in (b"not json", b"[]", b'{"turn": 3}', b'{"score": {}}'):
        assert turn_id(payload) is None
        ring.put(Held(7, payload, False), 0.0)
    assert len(ring) == 4
