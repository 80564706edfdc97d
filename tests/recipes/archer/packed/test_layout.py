"""Where tokens stand, on a batch small enough to write down."""

import torch

from recipes.archer.packed.layout import STEP, packed

# two prompts (the rows 0 and 2 have one), padded on the left; responses of 2, 0 and 3 tokens
IDS = torch.tensor([[0, 5, 6, 11, 12, 0], [7, 8, 9, 0, 0, 0], [0, 5, 6, 21, 22, 23]])
LAYOUT = packed(
    IDS,
    (IDS > 0).long(),
    ((IDS > 0).cumsum(-1) - 1).clamp(min=0),
    length=3,
    first=torch.tensor([0, 1]),
    which=torch.tensor([0, 1, 0]),
)


def test_every_prompt_once_then_the_responses_then_filler():
    assert LAYOUT.count == 10 and len(LAYOUT.input_ids) == STEP
    assert LAYOUT.input_ids[:11].tolist() == [5, 6, 7, 8, 9, 11, 12, 21, 22, 23, 0]
    assert LAYOUT.position_ids[:10].tolist() == [0, 1, 0, 1, 2, 2, 3, 2, 3, 4]


def test_cells_and_places_lead_to_one_another():
    assert LAYOUT.cells.view(5, 3).tolist() == [
        [0, 1, STEP - 1],
        [2, 3, 4],
        [5, 6, STEP - 1],
        [STEP - 1] * 3,
        [7, 8, 9],
    ]
    assert torch.equal(LAYOUT.cells[LAYOUT.places[: LAYOUT.count]], torch.arange(LAYOUT.count))


def test_a_response_sees_its_prompt_and_itself_up_to_the_token():
    sees = (LAYOUT.bias[:, 0] == 0).int().tolist()
    assert sees[0] == [[1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 1, 0, 1, 1, 1]]
    assert sees[1] == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    assert sees[2] == sees[0]


def test_the_token_before_a_response_is_its_prompts_last():
    assert LAYOUT.before[0, :2].tolist() == [1, 5] and LAYOUT.before[2].tolist() == [1, 7, 8]


def test_there_is_filler_also_where_the_tokens_fill_a_step():
    ids = torch.ones(1, STEP, dtype=torch.long)
    layout = packed(ids, ids, ids.cumsum(-1) - 1, 4, torch.tensor([0]), torch.tensor([0]))
    assert layout.count == STEP and len(layout.input_ids) == 2 * STEP
