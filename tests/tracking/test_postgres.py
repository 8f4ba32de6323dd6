"""The database that other tests ask for."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text


@pytest.mark.slow
def test_a_test_that_asks_for_postgresql_gets_an_empty_database_of_a_real_one(postgres):
    engine = create_engine(postgres)
    with engine.begin() as connection:
        assert "PostgreSQL" in connection.execute(text("SELECT version()")).scalar_one()
        assert (
            connection.execute(
                text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            ).scalar_one()
            == 0
        )
    engine.dispose()
