"""The fixtures of :mod:`tests.integration.services`, for all integration tests."""

from tests.integration.services import postgres_url, rabbitmq_server, rabbitmq_url, redis_url

__all__ = ["postgres_url", "rabbitmq_server", "rabbitmq_url", "redis_url"]
