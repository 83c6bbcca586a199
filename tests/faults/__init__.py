"""Faults, made over and over under load, and the proof that nothing is lost by them.

==================  ===========================================================
``ledger.py``       writers, and what they have committed
``consumer.py``     a consumer with a durable handler, in a process of its own
``rig.py``          a server, its writers and a consumer, for one scenario
``checker.py``      what the handler holds against what was committed
``scenarios.py``    the faults
==================  ===========================================================

``PGSTREAM_FAULT_ROUNDS`` sets how many rounds each scenario takes,
``PGSTREAM_FAULT_SEED`` replays one.
"""
