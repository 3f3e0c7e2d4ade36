import pytest

from claude_pool.errors import InvalidRequest
from claude_pool.templates import FOLDER, Scope, Value, check, fill, markers, render, with_args

SCOPE = Scope(args=frozenset({"issue"}), steps={"plan": frozenset({"risk"})}, later=frozenset({"build", "test"}))


def rendered(template: str, most: int = 1000, **values: str) -> str:
    return render(template, lambda name: Value(text=values[name.replace(".", "_")]), most_bytes=most).text


def test_markers_are_found_and_braces_of_code_are_not_among_them() -> None:
    code = 'f = {"a": 1}; s = { x }; if (a) { return {0}; } ${1} {{literal}} {steps.plan.risk}{args.issue}'
    assert list(markers(code)) == ["steps.plan.risk", "args.issue"]


@pytest.mark.parametrize(
    "template",
    ["{previous_output}", "{steps.plan.output}", "{steps.plan.risk}", "{steps.plan.state}", "{args.issue}", "{{foo}}"],
)
def test_what_means_something_is_taken(template: str) -> None:
    check(template, SCOPE, where="step 'build'")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{previous_ouput}", "means nothing here"),
        ("{steps.build.output}", "comes later"),
        ("{steps.test.output}", "comes later"),
        ("{steps.nope.output}", "there is no step 'nope'; there are plan"),
        ("{steps.plan.size}", "no output_var 'size'; there are error, output, risk, state"),
        ("{steps.plan}", "means nothing here"),
        ("{args.title}", "no argument 'title'; there are issue"),
        ("{branches}", "outside a gather"),
        ("{error}", "outside a recovery prompt"),
        ("{name}", "means nothing here"),
    ],
)
def test_an_unknown_marker_is_refused_with_its_place_and_the_way_out(template: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        check(template, SCOPE, where="step 'build'")
    assert caught.value.message.startswith("step 'build'")
    assert "{{" in caught.value.hint


def test_the_first_step_has_nothing_before_it() -> None:
    with pytest.raises(InvalidRequest, match="in a first step"):
        check("{previous_output}", Scope(previous=False), where="step 'a'")


def test_a_marker_that_a_model_wrote_stays_text() -> None:
    text = rendered("Look: {previous_output}", previous_output="{args.issue} {{x}} {steps.plan.risk} {previous_output}")
    assert text == "Look: {args.issue} {{x}} {steps.plan.risk} {previous_output}"


def test_doubled_braces_are_plain_ones() -> None:
    assert rendered("{{word}} and {args.a}", args_a="x") == "{word} and x"


def test_a_long_text_leaves_its_beginning_and_a_file() -> None:
    whole = "é" * 50_000
    done = render("Before {previous_output} after", lambda _: Value(text=whole), most_bytes=1001)
    name = f"{FOLDER}/previous_output.txt"
    assert done.files[name].text == whole
    assert done.text.startswith("Before " + "é" * 500 + "\n[… the beginning of 100,000 bytes")
    assert name in done.text
    assert done.text.endswith(" after")
    assert len(done.text) < 700


def test_a_text_that_was_cut_before_is_a_file_however_short_it_is_now() -> None:
    cut = Value(text="head … tail", path="/logs/x.output.txt", size=50 << 20)
    done = render("{steps.big.output}", lambda _: cut, most_bytes=1000)
    assert done.files == {f"{FOLDER}/steps-big-output.txt": cut}
    assert "52,428,800 bytes" in done.text


def test_nothing_in_a_rendered_prompt_can_not_be_sent() -> None:
    assert rendered("{previous_output}", previous_output="a\x00b\ud800") == "a\ufffdb\ufffd"


def test_commands_take_arguments_and_keep_their_own_braces() -> None:
    command = "{args.test} && echo ${HOME} {a,b} {steps.x.output}"
    assert with_args(command, {"test": "make {args.x}"}) == "make {args.x} && echo ${HOME} {a,b} {steps.x.output}"
    with pytest.raises(InvalidRequest, match="no argument 'tset'"):
        with_args("{args.tset}", {"test": ""})


def test_own_templates_know_their_own_names_only() -> None:
    assert fill("audit {target}, not {{target}}", {"target": "{x} a/b"}) == "audit {x} a/b, not {target}"
    with pytest.raises(InvalidRequest, match=r"no \{tagret\}"):
        fill("audit {tagret}", {"target": "x"})
