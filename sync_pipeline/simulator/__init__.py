"""The vendors, on localhost: a second reading of their documents that shares no line with the clients.

Imports nothing from the rest of the project, so that a misreading on one side shows as a difference on the other.
"""
