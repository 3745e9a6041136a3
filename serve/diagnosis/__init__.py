"""The parts of the diagnosis app that `serve/streamlit_app.py` puts together; they reach the model over HTTP only."""
