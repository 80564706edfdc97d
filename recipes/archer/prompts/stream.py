"""The order in which a run takes its prompts.

It is a function of the seed and the epoch, so that two integers and a list say where a run stands.
"""

from dataclasses import asdict, dataclass, field

import numpy as np


@dataclass
class PromptStream:
    """The endless sequence of prompt numbers that a run works through.

    Attributes:
        size: prompts in the data set.
        seed: of the order; with ``shuffle`` off the order is the file's.
        epoch, position: where the next prompt comes from.
        returned: prompts that were taken but not used, first in line.
    """

    size: int
    seed: int
    shuffle: bool = True
    epoch: int = 0
    position: int = 0
    returned: list[int] = field(default_factory=list)

    def take(self, number: int) -> list[int]:
        """The next ``number`` prompt numbers; an epoch's end is not a batch's end."""
        taken, self.returned = self.returned[:number], self.returned[number:]
        while len(taken) < number:
            order = self._order()
            part = order[self.position : self.position + number - len(taken)]
            taken += part
            self.position += len(part)
            if self.position == self.size:
                self.epoch, self.position = self.epoch + 1, 0
        return taken

    def give_back(self, numbers: list[int]) -> None:
        """Puts prompts that were taken first in line again."""
        self.returned = list(numbers) + self.returned

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        """Continues where ``state`` was taken.

        Raises:
            ValueError: the data set is another one than then, or the state is of no such place.
        """
        if state["size"] != self.size:
            raise ValueError(
                f"the checkpoint was trained on {state['size']} prompts, data.train_files has {self.size}; "
                "use the same file, or trainer.resume_mode=disable"
            )
        epoch, position, returned = state["epoch"], state["position"], state["returned"]
        numbers = isinstance(returned, list) and all(map(_is_number, [epoch, position, *returned]))
        if not numbers or any(number >= self.size for number in [position, *returned]):
            raise ValueError("the place in the prompts is none of these prompts")
        self.epoch, self.position, self.returned = epoch, position, list(returned)

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        return np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(self.size).tolist()


def _is_number(value: object) -> bool:
    return type(value) is int and value >= 0
