//! Contract suites of the ports: whatever stands behind a port passes its suite.
