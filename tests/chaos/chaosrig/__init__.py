"""The chaos rig: load, faults, evidence, and a checker that holds the evidence against the pool's promises.

history   everything that was observed in one run: clients, events, executions, records, money, what was left
checker   pure: a history in, violations and counts out
virtual   protocol level: the real scripts on a real Redis, hundreds of virtual slots, a clock that can be moved
mutants   seeded bugs, to prove that the checker can fail
nodes     process level: real nodes with a fake `claude`, and signals
"""
