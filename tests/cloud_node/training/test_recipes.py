import pytest

from cloud_node.laegan import PRESETS
from cloud_node.training.recipes import ADVERSARIAL_TERMS, RECIPES, UNPAIRED_TERMS, RecipeError
from cloud_node.training.schedule import factor
from cloud_node.training.terms import TERMS


def names(recipe: str, preset: str) -> list[str]:
    return [stage.name for stage in RECIPES[recipe].of(PRESETS[preset]).stages]


def test_stages_are_those_that_the_network_has_parameters_for() -> None:
    assert names("default", "fast") == names("default", "edge") == ["pairs"]
    assert names("default", "unet") == ["pairs"] and names("default", "paper") == ["zero-dce", "pairs"]
    assert names("paper", "paper") == ["zero-dce", "unpaired"]
    assert names("paper", "reference") == ["unpaired"]
    assert names("default", "zero-dce") == ["zero-dce"]


def test_the_paper_is_all_six_terms_with_weight_one_and_no_pairs() -> None:
    assert dict(RECIPES["paper"].stages[-1].terms) == dict.fromkeys(UNPAIRED_TERMS, 1)
    assert (RECIPES["paper"].etam, RECIPES["paper"].edge) == ("paper", "paper")
    with pytest.raises(RecipeError, match="--with charbonnier: stage 'unpaired'.*never sees pairs"):
        RECIPES["paper"].changed({"charbonnier": 1.0})


def test_terms_are_added_and_removed_in_the_last_stage_only() -> None:
    recipe = RECIPES["default"].changed({"etam": 0.5, "tone": 2.0}, ["reading"])
    assert recipe.stages[0] == RECIPES["default"].stages[0]
    assert recipe.stages[1].terms == {"etam": 0.5, "preserving": 0.01, "charbonnier": 1, "gradient": 1.5, "tone": 2}
    assert RECIPES["default"].stages[1].terms["tone"] == 0.5
    assert recipe.fingerprint() != RECIPES["default"].fingerprint()


def test_really_dark_photographs_are_learned_from_after_the_pairs() -> None:
    recipe = RECIPES["default"].with_dark_photographs()
    assert recipe.stages[:-1] == RECIPES["default"].stages and recipe.fingerprint() != RECIPES["default"].fingerprint()
    last = recipe.stages[-1]
    assert (last.name, last.rate, last.share, last.curve) == ("unpaired", 1e-4, 0.2, "linear")
    assert last.terms.keys() == UNPAIRED_TERMS and (recipe.etam, recipe.edge) == ("contrast", "masked")
    for left in (RECIPES["paper"], RECIPES["default"].of(PRESETS["zero-dce"])):
        assert left.with_dark_photographs() == left


@pytest.mark.parametrize(
    ("add", "remove", "message"),
    [
        ({"spatial": 1.0}, (), "--with spatial: stage 'pairs'.*It can have adversarial_global, "),
        ({"etam": 0.0}, (), "--with etam=0: a weight must be above 0"),
        ({"etam": float("nan")}, (), "--with etam=nan"),
        ({}, ("edge",), "--without edge: recipe 'default' has only etam, reading, preserving,"),
        ({}, tuple(RECIPES["default"].stages[1].terms), "left without a term"),
    ],
)
def test_changes_that_make_no_sense_are_refused(add: dict[str, float], remove: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        RECIPES["default"].changed(add, remove)


def test_every_term_of_a_stage_is_known() -> None:
    for recipe in RECIPES.values():
        for stage in recipe.stages:
            assert set(stage.terms) <= stage.allowed <= set(TERMS)
    assert ADVERSARIAL_TERMS <= RECIPES["default"].stages[-1].allowed


def test_rates_follow_their_curves() -> None:
    assert factor("cosine", 0, 0) == pytest.approx(1 / 200)
    assert factor("cosine", 500, 0.5) == pytest.approx(0.51) and factor("cosine", 500, 1) == pytest.approx(0.02)
    assert [factor("linear", 0, done) for done in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]
    assert factor("constant", 0, 0.9) == 1
