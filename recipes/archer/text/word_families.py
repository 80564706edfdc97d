"""The seven families of words whose frequency shows whether a response still reasons.

The families are those the Archer runs have always been read by, under the same names; the lists are of similar width,
so that thresholds recorded for earlier runs keep their order of magnitude. Lower case, whole words; a word belongs to
one family.
"""

from __future__ import annotations

WORD_FAMILIES: dict[str, frozenset[str]] = {
    family: frozenset(words.split())
    for family, words in {
        # What joins statements into an argument, and the adverbs of possibility that keep one open.
        "logical_connectives": """
            accordingly although alternatively and because besides but consequently conversely either else except
            furthermore hence however if iff implies maybe moreover neither nevertheless nonetheless nor or otherwise
            perhaps possibly presumably probably since so then thereby therefore though thus unless whereas whether
            while yet""",
        "thinking_and_reasoning": """
            analysis analyze analyzed analyzing argue argument assume assumed assuming assumption conclude concluded
            conclusion consider considering deduce deduced deduction imagine infer inference inferred know known logic
            logical logically notice observation observe reason reasoned reasoning suppose supposing think thinking
            thought understand understanding""",
        "planning_and_strategy": """
            algorithm approach approaches begin goal method methods plan planned planning plans procedure proceed
            process simplify solution solutions solve solved solving start starting step steps strategies strategy
            tactic technique""",
        "evaluation_and_verification": """
            assess assessment check checked checking checks compare confirm confirmed confirms consistent correct
            evaluate evaluated evaluating evaluation inconsistent incorrect judge judgment satisfied satisfies satisfy
            valid validate validation verification verified verifies verify verifying""",
        "decision_making": """
            candidate candidates choice choices choose chooses choosing chosen decide decided decides decision
            determine determined determines determining issue option options pick picked prefer problem problems
            question questions resolve resolved select selected selecting selection""",
        "reflection_and_contemplation": """
            actually backtrack contemplate double error errors hmm mistake mistaken mistakes oops ponder recall
            recheck reconsider reconsidering reexamine reflect reflecting reflection remember rethink retry review
            reviewing revisit wait weigh weighing wrong""",
        "concepts_and_theories": """
            axiom concept concepts conjecture corollary definition definitions formula formulas hypotheses hypothesis
            idea ideas identity law laws lemma model models notion principle principles properties property rule rules
            theorem theorems theories theory""",
    }.items()
}

FAMILIES = tuple(WORD_FAMILIES)
# word -> position of its family in FAMILIES
FAMILY_OF = {word: FAMILIES.index(family) for family, words in WORD_FAMILIES.items() for word in words}
