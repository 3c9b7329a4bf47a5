"""What EBooklet 0.11 wrote, decoded: for `migrate`, which is all that reads it.

Source: objects and files written by the package 0.11.1, and the section "Data Formats and
Stability" of its README. All of it may come from a bucket, so nothing is believed unchecked.
"""
