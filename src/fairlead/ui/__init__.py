"""The page of ``fairlead ui``: a small server for one machine's browser, and a client of the daemon like any other.

It runs only while somebody asks for it, reads from the daemon only while a page is open, and passes on nothing but
reading and traces: a page, whatever is wrong with it, cannot change a network.
"""
