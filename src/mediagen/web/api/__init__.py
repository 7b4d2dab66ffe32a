"""How a route is declared, and the schemas and views that the routes share."""
