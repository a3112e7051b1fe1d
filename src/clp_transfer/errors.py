"""The one exception a user is meant to see."""


class UserError(Exception):
    """A problem the user can mend: says what is wrong, what was expected, and what to do.

    The command line prints it on one screen, with no traceback, and exits with status 2.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n  What to do: {remedy}" if remedy else problem)
