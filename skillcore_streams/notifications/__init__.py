"""Notifications: which there are, how they read, whom they reach, and what became of them.

`notices` is the list of all templates. queues/notification_delivery.py is what happens, in order.
"""
