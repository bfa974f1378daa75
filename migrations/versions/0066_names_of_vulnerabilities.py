"""what vulnerabilities that were found are also called"""

import sqlalchemy as sa
from alembic import op


NAME = sa.Text().with_variant(sa.Text(collation='C'), 'postgresql')

revision = '0066'
down_revision = '0065'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'advisory_names',
        sa.Column('name', NAME, nullable=False),
        sa.Column('advisory', NAME, nullable=False),
        sa.PrimaryKeyConstraint('name', 'advisory', name=op.f('pk_advisory_names')),
    )
    if op.get_bind().dialect.name == 'postgresql':
        names = 'json_array_elements_text(aliases::json) AS alias (value)'
    else:
        names = 'json_each(aliases) AS alias'
    op.execute(
        'INSERT INTO advisory_names (name, advisory)'
        f' SELECT DISTINCT alias.value, advisory FROM component_findings, {names}'
    )
