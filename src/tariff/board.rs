//! The posted tariff, and past ones still honoured.
