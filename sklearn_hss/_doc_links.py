"""The address of the documentation, to which the HTML representation of every estimator links."""

DOCUMENTATION = "https://sklearn-hss.readthedocs.io/en/stable/"


class DocLinkMixin:
    """For scikit-learn's HTML representation: the page of the class in the API reference."""

    _doc_link_module = "sklearn_hss"
    _doc_link_template = DOCUMENTATION + "generated/sklearn_hss.{estimator_name}.html"
