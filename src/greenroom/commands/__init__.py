"""The commands of `greenroom`: each is a module `NAME_command`, which declares its arguments for
typer, and is listed in `app`; `plain` is what is left where typer is not installed.
"""
