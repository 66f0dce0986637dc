"""The REST API and the dashboard, and who may use them."""
