"""What is known: the engine, the migrations, and one file of tables per noun.

SQL stands in the use cases as SQLAlchemy Core statements; nothing here hides it.
"""
