"""inferd: Elasticsearch's inference API on one machine."""

__version__ = "0.1.0"
