"""What a run is told after a rejection."""

from __future__ import annotations

from claude_pool.review import asked_again


def test_a_run_that_goes_on_is_told_the_feedback_first_and_the_task_for_reference() -> None:
    told = asked_again("Write a parser.", ["Keep comments."], resumes=True)
    assert told.index("Keep comments.") < told.index("Write a parser.")
    assert "did not accept it" in told
    assert "interrupted" not in told


def test_all_feedback_is_told_in_its_order() -> None:
    told = asked_again("Write a parser.", ["Keep comments.", "Faster.", "Fewer lines."], resumes=True)
    places = [told.index(text) for text in ("rejected 3 times", "Rejection 1 of 3:\nKeep comments.", "Faster.", "Few")]
    assert places == sorted(places)


def test_a_run_that_begins_again_is_asked_the_task_and_told_where_the_work_is() -> None:
    told = asked_again("Write a parser.", ["Keep comments."], resumes=False)
    assert told.startswith("Write a parser.")
    assert "in the working directory" in told
    assert "Keep comments." in told


def test_an_interruption_after_a_rejection_is_told_as_well() -> None:
    for resumes in (True, False):
        told = asked_again("Write a parser.", ["Keep comments."], resumes=resumes, interrupted="the slot was lost")
        assert "interrupted (the slot was lost)" in told
        assert "Keep comments." in told
