//! What every log keeps, as a suite that each implementation runs.
