"""How a page's template is found and filled."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_environment(package: str) -> Environment:
    """An environment that finds the templates of `package`, and those that all pages share.

    Values are escaped, and a name that a template lacks is an error.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("synthdp.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
