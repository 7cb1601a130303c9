"""What a verb does about the screen before it works."""


def quiet() -> None:
    """Leave the screen to our own progress."""
    import warnings

    # Notices of one library to another about coming versions, of no use to whoever runs a command.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
