"""What webhooks may be: which addresses may be called, and how calls are signed."""
