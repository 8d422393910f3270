"""The world outside: one client library a module."""
