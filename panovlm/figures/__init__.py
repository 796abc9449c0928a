"""Pictures for people: views, occlusion, features."""
